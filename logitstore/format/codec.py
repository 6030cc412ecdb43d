"""Selected classes and their log-probabilities to what the arrays hold, and back. Pure functions of numpy arrays;
knows no files.

A row is k entries, most probable first, and the log of the probability mass outside them (the tail). There are three
kinds of entries, in this order: *exact* ones, whose log-probability is stored; *drawn* ones, which share the tail's
mass equally (selection `hybrid`); and, at the end, *empty* ones. In floats a drawn entry is plus infinity, an empty one
minus infinity.

`log8` takes one byte per value, `float16` two. Both store the tail as a value of its own and on decoding scale the
exact entries to sum to 1 - tail, so that rounding can never decide how much mass the tail has. `counts`, for the
selection `sample`, stores how often each class was drawn, so that a row's weights are exactly those of its draws.

There are three forms: floats (the teacher's log-probabilities), codes (log p = -code * step), and stored values. Under
`log8` differences of neighbouring codes are stored: never negative in a sorted row, mostly small, so they compress
well. Entries of equal code are equally probable once decoded; they are put in the order of their class numbers, and
differences of class numbers are stored, which again compress. The first entry stays first: it is the most probable
class.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.spec import StoreSpec

EMPTY = 255
"""log8: code, and stored value, of an empty entry."""
DRAWN = 254
"""log8: code, and stored value, of a drawn entry."""
LARGEST = 253
"""log8: code of the smallest log-probability; smaller ones are stored as this."""
TAIL_ZERO = 0
"""log8: code of a tail of no mass at all."""
TAIL_CENTRE = 128
"""log8: code of a tail of one half, log-odds 0."""
FIRST_TIED = 2
"""The first entry whose class number may be stored as a difference from its left neighbour's."""

_SMALLEST_HALF = float(np.finfo(np.float16).min)

Array = NDArray[Any]
Codes = NDArray[Any]
Floats = NDArray[np.float32]


def encode_classes(indices_nk: Array, logprobs_nk: Floats, *, spec: StoreSpec) -> tuple[Array, Codes]:
    """Selected classes (n, k) and their log-probabilities (n, k) to what the arrays `indices` and `logprobs` hold, each
    (n, k).

    Log-probabilities do not increase along k, except to drawn entries. Values above 0 count as 0, values below the
    code's range as its smallest. Under `counts` the log-probabilities are those of counts / draws.
    """
    if spec.encoding == "counts":
        codes = np.rint(np.exp(logprobs_nk.astype(np.float64)) * spec.draws).astype(np.uint8)
        return _class_differences(_in_tie_order(indices_nk, codes), codes), codes
    drawn, empty = np.isposinf(logprobs_nk), np.isneginf(logprobs_nk)
    values = np.minimum(np.where(drawn | empty, 0, logprobs_nk), np.float32(0))
    if spec.encoding == "float16":
        codes = np.maximum(values, _SMALLEST_HALF).astype("<f2")
        codes[drawn], codes[empty] = np.inf, -np.inf
        return _class_differences(_in_tie_order(indices_nk, codes), codes), codes
    steps = np.minimum(np.rint(values * (-1 / spec.log_step)), LARGEST).astype(np.uint8)
    codes = np.where(drawn, np.uint8(DRAWN), np.where(empty, np.uint8(EMPTY), steps))
    gaps = np.diff(codes, axis=1, prepend=np.uint8(0))
    return _class_differences(_in_tie_order(indices_nk, codes), codes), np.where(codes >= DRAWN, codes, gaps)


def decode_classes(stored_indices_nk: Array, stored_nk: Codes, *, spec: StoreSpec) -> tuple[Array, Codes]:
    """Inverse of `encode_classes`: class numbers (n, k) and codes (n, k), contiguous. Codes are the stored values,
    under `log8` running sums of them."""
    # Work on whole columns is far faster than along rows.
    codes_kn = np.array(stored_nk.T, order="C")
    marked = None
    if spec.encoding == "log8":
        if (stored_nk[:, -1] >= DRAWN).any():  # Drawn and empty entries end a row: a row that has any has one last.
            marked = codes_kn >= DRAWN
        for place in range(1, len(codes_kn)):
            codes_kn[place] += codes_kn[place - 1]
        if marked is not None:
            codes_kn[marked] = stored_nk.T[marked]
    indices_kn = np.array(stored_indices_nk.T, order="C")
    for place in range(FIRST_TIED, len(codes_kn)):
        tied = codes_kn[place] == codes_kn[place - 1]
        indices_kn[place] += indices_kn[place - 1] * tied
    if marked is not None or spec.encoding != "log8":
        indices_kn[is_empty(codes_kn, spec=spec)] = 0
    return np.ascontiguousarray(indices_kn.T), np.ascontiguousarray(codes_kn.T)


def fault(classes_nk: Array, codes_nk: Codes, tail_codes_n: Codes, *, spec: StoreSpec) -> str | None:
    """What makes decoded rows impossible to use, as text; None for good ones: cheap enough for every read."""
    if int(classes_nk.max()) >= spec.num_classes:
        return f"holds class {int(classes_nk.max())} of {spec.num_classes}"
    if spec.encoding == "float16" and (np.isnan(codes_nk).any() or np.isnan(tail_codes_n).any()):
        return "holds values that are not a number"
    return None


def is_empty(codes: Codes, *, spec: StoreSpec) -> NDArray[np.bool_]:
    """Which codes (or stored values) are of empty entries, of the same shape."""
    if spec.encoding == "float16":
        return np.asarray(np.isneginf(codes))
    return np.asarray(codes == (0 if spec.encoding == "counts" else EMPTY))


def is_drawn(codes: Codes, *, spec: StoreSpec) -> NDArray[np.bool_]:
    """Which codes (or stored values) are of drawn entries, of the same shape."""
    if spec.encoding == "float16":
        return np.asarray(np.isposinf(codes))
    return np.asarray(codes != 0 if spec.encoding == "counts" else codes == DRAWN)


def _in_tie_order(indices_nk: Array, codes_nk: Codes) -> NDArray[np.int64]:
    """Class numbers, those of neighbours with equal codes in rising order; the first stays where it is."""
    runs = np.zeros(codes_nk.shape, np.int64)
    np.cumsum(codes_nk[:, 1:] != codes_nk[:, :-1], axis=1, out=runs[:, 1:])
    keys = (runs << 32) + indices_nk
    keys[:, 1:].sort(axis=1)
    return keys & 0xFFFFFFFF


def _class_differences(indices_nk: Array, codes_nk: Codes) -> Array:
    """Class numbers, those of tied entries as differences from the left neighbour's."""
    tied = codes_nk[:, FIRST_TIED:] == codes_nk[:, FIRST_TIED - 1 : -1]
    stored = indices_nk.copy()
    stored[:, FIRST_TIED:] -= np.where(tied, indices_nk[:, FIRST_TIED - 1 : -1], 0)
    return stored


def encode_tail(tail_n: Floats, *, spec: StoreSpec) -> Codes:
    """Log tail mass (n,) to codes (n,): uint8 under `log8` and `counts`, float16 under `float16`.

    log8 stores the log-odds log(t / (1 - t)), which resolves tails near 0 and near 1 alike; a plain logarithm
    would not tell t = 0.99 from 1, and so lose the selected classes of views with flat distributions.
    """
    if spec.encoding == "counts":
        return np.full(len(tail_n), TAIL_ZERO, np.uint8)
    values = np.minimum(tail_n.astype(np.float64), 0)
    if spec.encoding == "float16":
        return np.where(np.isneginf(values), -np.inf, np.maximum(values, _SMALLEST_HALF)).astype("<f2")
    with np.errstate(divide="ignore"):
        log_odds = values - np.log(-np.expm1(values))
    steps = np.clip(np.rint(log_odds / spec.tail_step), 1 - TAIL_CENTRE, 255 - TAIL_CENTRE) + TAIL_CENTRE
    return np.where(np.isneginf(values), TAIL_ZERO, steps).astype(np.uint8)


def decode_tail(codes_n: Codes, *, spec: StoreSpec) -> Floats:
    """Codes (n,) to log tail mass (n,) float32, minus infinity where the tail is empty."""
    return _tail_tables(codes_n, spec)[0]


def decode(codes_nk: Codes, tail_codes_n: Codes, *, spec: StoreSpec) -> tuple[Floats, Floats]:
    """Codes of selected classes (n, k) and of the tail (n,) to log-probabilities.

    **Returns** log-probabilities (n, k) float32, minus infinity for empty entries, and log tail mass (n,) float32: what
    the entries do not have. Where entries were drawn they have all of it, and the tail is minus infinity.
    """
    tail, log_inside = _tail_tables(tail_codes_n, spec)
    if spec.encoding == "float16":
        logs = codes_nk.astype(np.float32)
    elif spec.encoding == "counts":
        with np.errstate(divide="ignore"):
            logs = np.log(codes_nk.astype(np.float32))
    else:
        logs = np.multiply(codes_nk, np.float32(-spec.log_step), dtype=np.float32)
        if (codes_nk[:, -1] >= DRAWN).any():
            logs[codes_nk >= DRAWN] = -np.inf
    drawn = is_drawn(codes_nk, spec=spec) if spec.selection == "hybrid" else None
    if drawn is not None:
        logs[drawn] = -np.inf
    sums = np.exp(logs).sum(axis=1)
    if spec.encoding == "counts":
        tail, log_inside = np.where(sums > 0, tail, np.float32(0)), np.zeros_like(tail)
    with np.errstate(divide="ignore", invalid="ignore"):  # Where all entries are empty, both logarithms are infinite.
        shift = np.where(sums > 0, log_inside - np.log(sums), 0).astype(np.float32)
    logs += shift[:, None]
    if drawn is None:
        return logs, tail
    number_n = drawn.sum(axis=1)
    each_n = tail - np.log(np.maximum(number_n, 1)).astype(np.float32)
    logs = np.where(drawn, each_n[:, None], logs)
    return logs, np.where(number_n > 0, np.float32(-np.inf), tail)


def _tail_tables(codes_n: Codes, spec: StoreSpec) -> tuple[Floats, Floats]:
    """Log tail mass and log of the mass inside, of the selected classes, each (n,) float32."""
    if spec.encoding == "float16":
        tail = codes_n.astype(np.float64)
        with np.errstate(divide="ignore"):
            return tail.astype(np.float32), np.log(-np.expm1(tail)).astype(np.float32)
    log_odds = (np.arange(256, dtype=np.float64) - TAIL_CENTRE) * spec.tail_step
    tails = -np.logaddexp(0, -log_odds)
    inside = -np.logaddexp(0, log_odds)
    tails[TAIL_ZERO], inside[TAIL_ZERO] = -np.inf, 0
    return tails.astype(np.float32)[codes_n], inside.astype(np.float32)[codes_n]
