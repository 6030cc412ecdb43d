"""The random stream of every view: 64-bit words of Philox, and numbers derived from them by arithmetic of our own.

`words` takes only raw Philox4x64-10 words from numpy (Salmon et al., "Parallel random numbers: as easy
as 1, 2, 3", SC 2011), so a changed sampling method in a library cannot change a view. Each parameter of a view
reads the word at a fixed position (the table is in `draw.py`), so a new parameter shifts no other.

The numbers are the same on every machine: integers use integer arithmetic; uniforms are 53 bits times a power of
two; logarithms come from `decimal`, whose `ln` is correctly rounded by definition; all else is single float64
additions, multiplications, divisions and square roots, which IEEE 754 rounds correctly. Besides, every derived number
is rounded to a fixed grid before it is used.
"""

import math
import threading
from decimal import Context, Decimal
from functools import lru_cache

import numpy as np

WORD = 1 << 64
"""Words are integers in [0, WORD)."""

NORMAL_GRID = 1024
"""Normals are multiples of 1 / NORMAL_GRID."""

_EXACT = Context(prec=25)

_LN_2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
"""Logarithm of 2 as a sum; the first has 21 zero bits at its end, so small multiples of it are exact."""

_SERIES = tuple(1 / math.factorial(n) for n in range(13, -1, -1))
"""Of the exponential, highest power first."""

_generators = threading.local()


def words(seed: int, *, count: int, domain: int = 0) -> list[int]:
    """The first `count` words of stream (seed, domain), each in [0, 2**64).

    `seed` and `domain` are the two 64-bit halves of the Philox key; different domains are independent streams.

    **Raises:** `ValueError` for a seed or domain outside that range.
    """
    if not (0 <= seed < WORD and 0 <= domain < WORD):
        raise ValueError(f"seed and domain are unsigned 64-bit integers, got {seed} and {domain}")
    stream: list[int] = raw_words(seed, count=count, domain=domain).tolist()
    return stream


def raw_words(seed: int, *, count: int, domain: int = 0) -> np.ndarray:
    """The same words as a uint64 array (count,)."""
    if not hasattr(_generators, "philox"):
        _generators.philox = np.random.Philox(key=0)
        _generators.start = _generators.philox.state
    _generators.start["state"]["key"][:] = seed, domain  # ten times cheaper than a new generator
    _generators.philox.state = _generators.start
    raw: np.ndarray = _generators.philox.random_raw(count)
    return raw


def uniform(word: int, low: float = 0.0, high: float = 1.0) -> float:
    """A number in [low, high) from the top 53 bits."""
    return low + (high - low) * ((word >> 11) * 2.0**-53)


def integer(word: int, count: int) -> int:
    """An integer in [0, count), by multiply and shift (no value is favoured by more than count / 2**64)."""
    return (word * count) >> 64


def bernoulli(word: int, probability: float) -> bool:
    """True with the given probability; never for 0, always for 1."""
    return uniform(word) < probability


def normal(word: int) -> float:
    """A standard normal number, a multiple of 1 / NORMAL_GRID, at most about 8.2 from zero."""
    return round(normal_quantile(((word >> 12) + 0.5) * 2.0**-52) * NORMAL_GRID) / NORMAL_GRID


def log_uniform(word: int, low: float, high: float) -> float:
    """A number in [low, high] whose logarithm is uniform."""
    return exp(uniform(word, log(low), log(high)))


def exp(number: float) -> float:
    """The exponential, the same float64 on every machine (the C library's may differ in the last bit).

    A Taylor series on half an octave, to the last bit or the one before it, for |number| up to 700.
    """
    octaves = round(number / _LN_2[0])
    rest = (number - octaves * _LN_2[0]) - octaves * _LN_2[1]
    total = 0.0
    for coefficient in _SERIES:
        total = total * rest + coefficient
    return math.ldexp(total, octaves)


@lru_cache(maxsize=256)
def log(number: float) -> float:
    """The natural logarithm, the same float64 on every machine."""
    return float(_EXACT.ln(Decimal(number)))


def normal_quantile(probability: float) -> float:
    """The quantile of a standard normal for 0 < probability < 1, with a relative error of about 1e-7.

    Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37
    (1988), the seven-figure variant PPND7.
    """
    distance = probability - 0.5
    if abs(distance) <= 0.425:
        r = 0.180625 - distance * distance
        top = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179
        bottom = ((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0
        return distance * top / bottom
    r = math.sqrt(-log(probability if distance < 0 else 1.0 - probability))
    if r <= 5.0:
        r -= 1.6
        top = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777
        bottom = (0.12021132975 * r + 0.73700164250) * r + 1.0
    else:
        r -= 5.0
        top = ((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150
        bottom = (0.012258202635 * r + 0.24197894225) * r + 1.0
    return top / bottom if distance > 0 else -top / bottom


def to_grid(number: float, steps: int) -> float:
    """The nearest multiple of 1 / steps; exact in float64 when `steps` is a power of two."""
    return round(number * steps) / steps
