"""Parameters and multiply-accumulates (MACs) of a TinyViT from its dimensions alone, without building it.

A contraction search computes them for thousands of architectures; building each would take a second. The rule is that
of `distill.models.cost.counting`, which counts built networks; a test compares the two exactly on random architectures.

Letters: d channels, h hidden channels, p positions of a map.
"""

from __future__ import annotations

import dataclasses
import math

from distill.models.cost.counting import MACS_PER_NORM_ELEMENT
from distill.models.tinyvit.config import NUM_STAGES, TinyViTConfig


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Parameters and multiply-accumulates of an architecture."""

    params: int
    """Number of parameters."""
    macs: int
    """Multiply-accumulates per image, by the rule of `distill.models.cost.counting`."""


def cost_of(config: TinyViTConfig, *, image_size: int | None = None) -> Cost:
    """Parameters and multiply-accumulates of an architecture.

    **Arguments:** `image_size`: side of the image in pixels; None: that of the config.

    **Returns** the numbers that `count_params` and `count_macs` count for the built network.
    """
    return Cost(params_of(config), macs_of(config, image_size=image_size or config.image_size))


def params_of(config: TinyViTConfig) -> int:
    """Number of parameters of the network of a config."""
    first = config.dims[0]
    total = _conv_norm_params(3, first // 2, taps=9) + _conv_norm_params(first // 2, first, taps=9)
    for stage in range(NUM_STAGES):
        d = config.dims[stage]
        if stage:
            total += _conv_norm_params(config.dims[stage - 1], d) + _conv_norm_params(1, d, taps=9)
            total += _conv_norm_params(d, d)
        total += config.depths[stage] * (_attention_block_params(config, stage) if stage else _mbconv_params(config))
    last = config.dims[-1]
    return total + 2 * last + (last + 1) * config.num_classes


def macs_of(config: TinyViTConfig, *, image_size: int) -> int:
    """Multiply-accumulates for one image (3, image_size, image_size)."""
    sides = stage_sides(config, image_size=image_size)
    first = config.dims[0]
    half = -(-image_size // 2)
    total = _conv_norm_macs(3 * 9, first // 2, half**2) + _conv_norm_macs(first // 2 * 9, first, sides[0] ** 2)
    for stage in range(NUM_STAGES):
        d, p = config.dims[stage], sides[stage] ** 2
        if stage:
            total += _conv_norm_macs(config.dims[stage - 1], d, sides[stage - 1] ** 2)
            total += _conv_norm_macs(9, d, p) + _conv_norm_macs(d, d, p)
        block = _attention_block_macs(config, stage, sides[stage]) if stage else _mbconv_macs(config, p)
        total += config.depths[stage] * block
    last = config.dims[-1]
    return total + MACS_PER_NORM_ELEMENT * last + last * config.num_classes


def stage_sides(config: TinyViTConfig, *, image_size: int) -> tuple[int, ...]:
    """Side of the feature map of each stage, in positions."""
    side = math.ceil(image_size / 2)
    sides = [side if config.stem_stride == 2 else math.ceil(side / 2)]
    for _ in range(1, NUM_STAGES):
        sides.append(math.ceil(sides[-1] / 2))
    return tuple(sides)


def _conv_norm_params(in_dim: int, out_dim: int, *, taps: int = 1) -> int:
    return in_dim * taps * out_dim + 2 * out_dim


def _mbconv_params(config: TinyViTConfig) -> int:
    d = config.dims[0]
    h = int(d * config.expand)
    return _conv_norm_params(d, h) + _conv_norm_params(1, h, taps=9) + _conv_norm_params(h, d)


def _attention_block_params(config: TinyViTConfig, stage: int) -> int:
    d = config.dims[stage]
    h = int(d * config.mlp_ratio)
    attention = 2 * d + (d + 1) * 3 * d + (d + 1) * d + config.heads[stage] * config.windows[stage] ** 2
    return attention + _conv_norm_params(1, d, taps=9) + 2 * d + (d + 1) * h + (h + 1) * d


def _conv_norm_macs(products: int, out_dim: int, positions: int) -> int:
    """A convolution with `products` products per output element, and the BatchNorm after it."""
    return (products + MACS_PER_NORM_ELEMENT) * out_dim * positions


def _mbconv_macs(config: TinyViTConfig, p: int) -> int:
    d = config.dims[0]
    h = int(d * config.expand)
    return _conv_norm_macs(d, h, p) + _conv_norm_macs(9, h, p) + _conv_norm_macs(h, d, p)


def _attention_block_macs(config: TinyViTConfig, stage: int, side: int) -> int:
    d, window = config.dims[stage], config.windows[stage]
    h = int(d * config.mlp_ratio)
    p, padded = side**2, (math.ceil(side / window) * window) ** 2
    attention = padded * (MACS_PER_NORM_ELEMENT * d + 4 * d * d + 2 * window**2 * d)
    return attention + _conv_norm_macs(9, d, p) + p * (MACS_PER_NORM_ELEMENT * d + 2 * d * h)
