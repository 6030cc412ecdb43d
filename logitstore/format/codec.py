"""Selected classes and their log-probabilities to what the arrays hold, and back. Pure functions of numpy arrays; knows
no files.

A row is k entries, most probable first, and the log of the probability mass outside them (the tail). Three kinds of
entries, in this order: *exact* ones, whose log-probability is stored; *drawn* ones, which share the tail's mass equally
(selection `hybrid`); and, at the end, entries that hold *nothing*. In floats a drawn entry is plus infinity, nothing is
minus infinity.

`log8` spends one byte a value, `float16` two. Both store the tail as its own value and on decoding scale the exact
entries to sum to 1 - tail, so that rounding can never decide how much mass the tail has. `counts`, for the selection
`sample`, stores how often each class was drawn, so that a row's weights are what was drawn, not what rounding left.

Three forms: floats (what the teacher said), codes (log p = -code * step), and stored values. Stored are, under `log8`,
differences of neighbouring codes: never negative in a sorted row, mostly small, much smaller once compressed. Entries
of one code have no order among themselves that decoding could show; they are put in the order of their class numbers,
and differences of class numbers are stored, which again compress. The first entry is left alone: it is the most
probable class.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.spec import StoreSpec

NOTHING = 255
"""log8: code, and stored value, of an entry that holds nothing."""
DRAWN = 254
"""log8: code, and stored value, of a drawn entry."""
LARGEST = 253
"""log8: code of the smallest log-probability; smaller ones are stored as this."""
TAIL_ZERO = 0
"""log8: code of a tail that is exactly empty."""
TAIL_CENTRE = 128
"""log8: code of a tail of one half, log-odds 0."""
FIRST_TIED = 2
"""The first entry whose class number may be stored as a difference from its left neighbour's."""

_SMALLEST_HALF = float(np.finfo(np.float16).min)

Array = NDArray[Any]
Codes = NDArray[Any]
Floats = NDArray[np.float32]


def encode_kept(indices_nk: Array, logprobs_nk: Floats, *, spec: StoreSpec) -> tuple[Array, Codes]:
    """Selected classes (n, k) and their log-probabilities (n, k), not increasing along k but for drawn entries, to what
    the
    arrays `indices` and `logprobs` hold, each (n, k).

    Values above 0 count as 0, values below the code's range as its smallest. Under `counts` the log-probabilities are
    those of counts / draws.
    """
    if spec.encoding == "counts":
        codes = np.rint(np.exp(logprobs_nk.astype(np.float64)) * spec.draws).astype(np.uint8)
        return _class_differences(_in_tie_order(indices_nk, codes), codes), codes
    drawn, nothing = np.isposinf(logprobs_nk), np.isneginf(logprobs_nk)
    values = np.minimum(np.where(drawn | nothing, 0, logprobs_nk), np.float32(0))
    if spec.encoding == "float16":
        codes = np.maximum(values, _SMALLEST_HALF).astype("<f2")
        codes[drawn], codes[nothing] = np.inf, -np.inf
        return _class_differences(_in_tie_order(indices_nk, codes), codes), codes
    steps = np.minimum(np.rint(values * (-1 / spec.log_step)), LARGEST).astype(np.uint8)
    codes = np.where(drawn, np.uint8(DRAWN), np.where(nothing, np.uint8(NOTHING), steps))
    gaps = np.diff(codes, axis=1, prepend=np.uint8(0))
    return _class_differences(_in_tie_order(indices_nk, codes), codes), np.where(codes >= DRAWN, codes, gaps)


def decode_kept(stored_indices_nk: Array, stored_nk: Codes, *, spec: StoreSpec) -> tuple[Array, Codes]:
    """Inverse of `encode_kept`: class numbers (n, k) and codes (n, k), contiguous. Codes are stored values, but under
    `log8` running sums of them."""
    # Work on whole columns is far faster than along rows.
    codes_kn = np.array(stored_nk.T, order="C")
    marked = None
    if spec.encoding == "log8":
        if (stored_nk[:, -1] >= DRAWN).any():  # Drawn entries and nothing end a row: a row that holds any has it last.
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
        indices_kn[is_nothing(codes_kn, spec=spec)] = 0
    return np.ascontiguousarray(indices_kn.T), np.ascontiguousarray(codes_kn.T)


def is_nothing(codes: Codes, *, spec: StoreSpec) -> NDArray[np.bool_]:
    """Which codes (or stored values) hold nothing, of the same shape."""
    if spec.encoding == "float16":
        return np.asarray(np.isneginf(codes))
    return np.asarray(codes == (0 if spec.encoding == "counts" else NOTHING))


def is_drawn(codes: Codes, *, spec: StoreSpec) -> NDArray[np.bool_]:
    """Which codes (or stored values) are of drawn entries, of the same shape."""
    if spec.encoding == "float16":
        return np.asarray(np.isposinf(codes))
    return np.asarray(codes != 0 if spec.encoding == "counts" else codes == DRAWN)


def _in_tie_order(indices_nk: Array, codes_nk: Codes) -> NDArray[np.int64]:
    """Class numbers, those of neighbours with one code in rising order; the first stays where it is."""
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
    """Log tail mass (n,) to codes (n,): uint8 under `log8`, float16 under `float16`.

    log8 stores the log-odds log(t / (1 - t)), which resolves tails near 0 and near 1 alike; a plain logarithm
    would not tell t = 0.99 from 1 and with it lose the kept classes of flat views.
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
    """Codes of kept classes (n, k) and tail (n,) to log-probabilities.

    **Returns** log-probabilities (n, k) float32, minus infinity where nothing is stored, and log tail mass (n,)
    float32: what the entries do not have. Where entries were drawn they have it all, and the tail is minus infinity.
    """
    tail, log_kept = _tail_tables(tail_codes_n, spec)
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
        tail, log_kept = np.where(sums > 0, tail, np.float32(0)), np.zeros_like(tail)
    with np.errstate(divide="ignore", invalid="ignore"):  # Where a row holds nothing, both logarithms are infinite.
        shift = np.where(sums > 0, log_kept - np.log(sums), 0).astype(np.float32)
    logs += shift[:, None]
    if drawn is None:
        return logs, tail
    number_n = drawn.sum(axis=1)
    shares_n = tail - np.log(np.maximum(number_n, 1)).astype(np.float32)
    logs = np.where(drawn, shares_n[:, None], logs)
    return logs, np.where(number_n > 0, np.float32(-np.inf), tail)


def _tail_tables(codes_n: Codes, spec: StoreSpec) -> tuple[Floats, Floats]:
    """Log tail mass and log of the mass that is left for the kept classes, each (n,) float32."""
    if spec.encoding == "float16":
        tail = codes_n.astype(np.float64)
        with np.errstate(divide="ignore"):
            return tail.astype(np.float32), np.log(-np.expm1(tail)).astype(np.float32)
    log_odds = (np.arange(256, dtype=np.float64) - TAIL_CENTRE) * spec.tail_step
    tails = -np.logaddexp(0, -log_odds)
    kept = -np.logaddexp(0, log_odds)
    tails[TAIL_ZERO], kept[TAIL_ZERO] = -np.inf, 0
    return tails.astype(np.float32)[codes_n], kept.astype(np.float32)[codes_n]
