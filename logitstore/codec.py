"""Log-probabilities to stored codes and back. Pure functions of numpy arrays; knows no files.

A row is k kept log-probabilities, most probable first, and the log of the probability mass outside them (the
tail). Two encodings: `log8` spends one byte a value, `float16` two. Both store the tail as its own value and
on decoding scale the kept classes to sum to 1 - tail, so that rounding can never decide how much mass the
tail has.

An entry of minus infinity means "nothing stored here"; such entries end a row, their class index is 0 and
counts for nothing.

Three forms: floats (what the teacher said), codes (log p = -code * step), and stored values, which for `log8`
are the differences of neighbouring codes: never negative in a sorted row, mostly small, much
smaller once compressed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.spec import StoreSpec

NOTHING = 255
"""log8: code, and stored value, of an entry that holds nothing."""
LARGEST = 254
"""log8: code of the smallest log-probability; smaller ones are stored as this."""
TAIL_ZERO = 0
"""log8: code of a tail that is exactly empty."""
TAIL_CENTRE = 128
"""log8: code of a tail of one half, log-odds 0."""

_SMALLEST_HALF = float(np.finfo(np.float16).min)

Codes = NDArray[Any]
Floats = NDArray[np.float32]


def encode_logprobs(logprobs_nk: Floats, *, spec: StoreSpec) -> Codes:
    """Log-probabilities (n, k), not increasing along k, to stored values (n, k): uint8 (`log8`) or float16.

    Values above 0 count as 0, values below the code's range as its smallest, minus infinity as nothing.
    """
    values = np.minimum(logprobs_nk, np.float32(0))
    nothing = np.isneginf(values)
    if spec.encoding == "float16":
        return np.where(nothing, -np.inf, np.maximum(values, _SMALLEST_HALF)).astype("<f2")
    steps = np.minimum(np.rint(np.where(nothing, 0, values) * (-1 / spec.log_step)), LARGEST)
    codes = steps.astype(np.int16)
    gaps = np.diff(codes, axis=1, prepend=np.int16(0))
    return np.where(nothing, NOTHING, gaps).astype(np.uint8)


def codes_of(stored_nk: Codes) -> Codes:
    """Stored values (n, k) to codes (n, k), contiguous: running sums (`log8`) or the same (`float16`)."""
    if stored_nk.dtype != np.uint8:
        return np.ascontiguousarray(stored_nk)
    # The array comes kept class by kept class: adding whole columns is far faster than np.cumsum along rows.
    codes_kn = np.array(stored_nk.T, order="C")
    for place in range(1, len(codes_kn)):
        codes_kn[place] += codes_kn[place - 1]
    # Nothing ends a row: a row that holds any has it last.
    if (stored_nk[:, -1] == NOTHING).any():
        codes_kn[stored_nk.T == NOTHING] = NOTHING
    return np.ascontiguousarray(codes_kn.T)


def encode_tail(tail_n: Floats, *, spec: StoreSpec) -> Codes:
    """Log tail mass (n,) to codes (n,): uint8 under `log8`, float16 under `float16`.

    log8 stores the log-odds log(t / (1 - t)), which resolves tails near 0 and near 1 alike; a plain logarithm
    would not tell t = 0.99 from 1 and with it lose the kept classes of flat views.
    """
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

    **Returns** log-probabilities (n, k) float32 whose exponentials sum to 1 - tail in each row, minus
    infinity where nothing is stored, and log tail mass (n,) float32.
    """
    tail, log_kept = _tail_tables(tail_codes_n, spec)
    if spec.encoding == "float16":
        logs = codes_nk.astype(np.float32)
    else:
        logs = np.multiply(codes_nk, np.float32(-spec.log_step), dtype=np.float32)
        if (codes_nk[:, -1] == NOTHING).any():
            logs[codes_nk == NOTHING] = -np.inf
    sums = np.exp(logs).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # Where a row holds nothing, both logarithms are infinite.
        shift = np.where(sums > 0, log_kept - np.log(sums), 0).astype(np.float32)
    logs += shift[:, None]
    return logs, tail


def is_nothing(codes_nk: Codes) -> NDArray[np.bool_]:
    """Which entries hold nothing, (n, k)."""
    return codes_nk == NOTHING if codes_nk.dtype == np.uint8 else np.isneginf(codes_nk)


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
