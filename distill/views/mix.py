"""Mixup and cutmix, replayable: which views are mixed, how, and the mixed pixels.

Rows are paired within fixed groups of consecutive rows of one epoch by a permutation that follows from the seed of
the group's first row (`pair_order`); how a pair is mixed follows from the seed of its lower row (`draw_mix`). Both
views of a pair become mixed images, each the mirror of the other, as in timm's pair mode:

    a' = mix_pixels(a, b, mixing)    b' = mix_pixels(b, a, mixing)

Zhang et al., "mixup: Beyond empirical risk minimization" (ICLR 2018); Yun et al., "CutMix" (ICCV 2019). Words of
stream (lower row's seed, MIX), read at fixed positions as in `draw`:

    word      what
    0         mixed or not
    1         cutmix or mixup
    2, 3      centre of the cutmix box: row, column
    4 + 2i    attempt i = 0..63 of drawing the mixing weight: two words
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from distill.errors import UsageError
from distill.views.checks import as_integer, as_number, check_range
from distill.views.erase import edge_slice
from distill.views.ops_color import Pixels
from distill.views.proof import block_proof, pixel_digest
from distill.views.random import bernoulli, exp, integer, log, raw_words, words
from distill.views.view import RELATIVE, Box

MIX, PAIRING = 2, 3
"""Domains of the streams of a pair's mix and of a group's pairing (0 and 1 are parameters and noise)."""

WEIGHT_STEPS = 256
"""Mixup weights are multiples of 1/256: a finer weight makes no difference in 8 bits."""

BETA_GRID = 1 << 16
ATTEMPTS = 64
MAX_ALPHA = 32.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MixSpec:
    """How views are mixed with one another."""

    mixup_alpha: float = 0.8
    """The weight of mixup is drawn from Beta(alpha, alpha); 0: no mixup."""
    cutmix_alpha: float = 1.0
    """One minus the area of the cutmix box, before it is clipped, likewise; 0: no cutmix."""
    prob: float = 1.0
    """Probability that a pair is mixed."""
    switch_prob: float = 0.5
    """Probability of cutmix, else mixup, where both alphas are above 0."""
    group_size: int = 64
    """Rows are paired within groups of this many consecutive rows; even."""

    def __post_init__(self) -> None:
        for name in ("mixup_alpha", "cutmix_alpha", "prob", "switch_prob"):
            object.__setattr__(self, name, as_number(f"mix.{name}", getattr(self, name)))
        for name in ("prob", "switch_prob"):
            check_range(f"mix.{name}", (getattr(self, name),) * 2, low=0.0, high=1.0)
        alphas = (self.mixup_alpha, self.cutmix_alpha)
        if not all(alpha == 0 or 0.02 <= alpha <= MAX_ALPHA for alpha in alphas) or not any(alphas):
            raise UsageError(
                f"view spec: mix.mixup_alpha and mix.cutmix_alpha must be 0 or lie in 0.02 .. {MAX_ALPHA:g}, one of "
                f"them above 0, got {alphas[0]:g} and {alphas[1]:g}"
            )
        if not 2 <= as_integer("mix.group_size", self.group_size) <= 1 << 16 or self.group_size % 2:
            raise UsageError(f"view spec: mix.group_size must be even, from 2 to 65536, got {self.group_size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How one pair is mixed: the same value serves both views."""

    kind: str
    """'mixup' or 'cutmix'."""
    weight: int = WEIGHT_STEPS
    """Mixup: weight of a view's own image, in 1/256."""
    box: Box | None = None
    """Cutmix: the box taken from the partner's image, in 1/65536 of the output's side."""


def mix_of(value: object) -> MixSpec | None:
    """The mix of a spec's `mix`: the JSON of a MixSpec, a MixSpec, or None. **Raises:** `UsageError`."""
    if value is None or isinstance(value, MixSpec):
        return value
    if not isinstance(value, Mapping):
        raise UsageError(f"view spec: mix must be null or its parameters, got {value!r}")
    names = [field.name for field in fields(MixSpec)]
    unknown = sorted(str(key) for key in value if key not in names)
    if unknown:
        raise UsageError(f"view spec mix: unknown keys {', '.join(unknown)}; the keys are {', '.join(names)}")
    return MixSpec(**value)


def mix_digest(spec: MixSpec) -> int:
    """Digest of some pairings, and of a synthetic pair of images under some mixes: uint64, never 0. For mixing it is
    what `spec_digest` is for single views."""
    rows, columns = np.mgrid[0:48, 0:48]
    own = np.stack([rows * columns, rows * 3 + columns, rows ^ columns], axis=2).astype(np.uint8)
    other = np.ascontiguousarray(own[::-1, :, ::-1] ^ 0x5A)
    mixings = [draw_mix(spec, seed) for seed in range(32)]
    images = [own if mixing is None else mix_pixels(own, other, mixing) for mixing in mixings]
    orders = [pair_order(seed, length=spec.group_size).astype("<u4").view(np.uint8) for seed in range(4)]
    return block_proof([pixel_digest(array) for array in (*images, *orders)])


def pair_order(seed: int, *, length: int) -> npt.NDArray[np.int64]:
    """(length,) int64, a permutation whose entries 2j and 2j + 1 are a pair; an odd last entry has no partner.

    `seed` is that of the view of the group's first row.
    """
    return np.argsort(raw_words(seed, count=length, domain=PAIRING), kind="stable")


def draw_mix(spec: MixSpec, seed: int) -> Mixing | None:
    """How the pair whose lower row has the view seed `seed` is mixed; None: not at all."""
    stream = words(seed, count=4 + 2 * ATTEMPTS, domain=MIX)
    if not bernoulli(stream[0], spec.prob):
        return None
    cutmix = spec.cutmix_alpha > 0 and (spec.mixup_alpha == 0 or bernoulli(stream[1], spec.switch_prob))
    beta = symmetric_beta(stream[4:], spec.cutmix_alpha if cutmix else spec.mixup_alpha)
    if not cutmix:
        return Mixing(kind="mixup", weight=(beta * WEIGHT_STEPS * 2 + BETA_GRID) // (2 * BETA_GRID))
    side = math.isqrt((BETA_GRID - beta) * RELATIVE * RELATIVE // BETA_GRID)
    top, height = _clipped(integer(stream[2], RELATIVE), side)
    left, width = _clipped(integer(stream[3], RELATIVE), side)
    return Mixing(kind="cutmix", box=Box(top=top, left=left, height=height, width=width))


def symmetric_beta(stream: list[int], alpha: float) -> int:
    """A number from Beta(alpha, alpha) in 1/65536, from two words per attempt.

    Up to alpha 1 by Johnk's method: with x = u^(1/alpha) and y = v^(1/alpha), x / (x + y) where x + y <= 1 (accepted
    half of the time or more). Above, a uniform number u is accepted with probability (4 u (1 - u))^(alpha - 1). Powers
    come from `decimal` (see `random`), so the last bit is the same on every machine; the result is rounded to a grid
    besides. When all attempts fail (less than one draw in 60,000 up to alpha 32) the number is a half.
    """
    for first, second in zip(stream[::2], stream[1::2], strict=True):
        u, v = (((word >> 11) + 0.5) * 2.0**-53 for word in (first, second))
        if alpha <= 1:
            x, y = exp(log(u) / alpha), exp(log(v) / alpha)
            if 0 < x + y <= 1:
                return round(x / (x + y) * BETA_GRID)
        elif log(v) <= (alpha - 1) * log(4 * u * (1 - u)):
            return round(u * BETA_GRID)
    return BETA_GRID // 2


def _clipped(centre: int, side: int) -> tuple[int, int]:
    """Begin and length of a box edge around a centre, clipped to the image."""
    begin, end = max(0, centre - side // 2), min(RELATIVE, centre + side // 2)
    return begin, end - begin


def mix_pixels(own: Pixels, other: Pixels, mixing: Mixing) -> Pixels:
    """The mixed image of one view of a pair: uint8 (size, size, 3), new memory.

    Mixup is (own * weight + other * (256 - weight) + 128) >> 8, a blend rounded half up that fits 16 bits. A cutmix box
    covers the same part of the image at every size, its edges rounded to pixels as those of erased boxes.
    """
    if mixing.box is None:
        blend = np.multiply(own, mixing.weight, dtype=np.uint16)
        blend += np.multiply(other, WEIGHT_STEPS - mixing.weight, dtype=np.uint16)
        blend += 128
        blend >>= 8
        return np.asarray(blend, np.uint8)
    rows, columns = _box_slices(mixing.box, own.shape[0])
    mixed = own.copy()
    mixed[rows, columns] = other[rows, columns]
    return mixed


def own_weight(mixing: Mixing, *, size: int) -> float:
    """The weight of a view's own image, and so of its own label, in a mixed image of `size` pixels.

    For cutmix one minus the fraction of pixels that the clipped box covers.
    """
    if mixing.box is None:
        return mixing.weight / WEIGHT_STEPS
    rows, columns = _box_slices(mixing.box, size)
    covered: int = (rows.stop - rows.start) * (columns.stop - columns.start)
    return 1 - covered / size**2


def describe_mix(mixing: Mixing | None, *, size: int) -> str:
    """The mix as text."""
    if mixing is None:
        return "not mixed"
    weight = own_weight(mixing, size=size)
    if mixing.box is None:
        return f"mixup: {weight:.1%} its own image, {1 - weight:.1%} the partner's"
    box = mixing.box
    percent = [f"{edge / RELATIVE:.1%}" for edge in (box.width, box.height, box.left, box.top)]
    where = "{} x {} of the output at left {}, top {}".format(*percent)
    return f"cutmix: {where} from the partner's image, {weight:.1%} its own"


def _box_slices(box: Box, size: int) -> tuple[slice, slice]:
    return edge_slice(box.top, box.height, size), edge_slice(box.left, box.width, size)
