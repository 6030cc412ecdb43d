"""Parameters and MACs of an architecture by formula: exactly those counted of the built network."""

from __future__ import annotations

import random

import pytest
import torch

from distill import models
from distill.models.cost.formula import Cost, cost_of
from distill.models.tinyvit.config import PUBLISHED, TinyViTConfig
from distill.models.tinyvit.network import TinyViT


def random_config(generator: random.Random) -> TinyViTConfig:
    head_dim = generator.choice([2, 4, 8, 16])
    heads = tuple(generator.randint(1, 5) for _ in range(4))
    return TinyViTConfig(
        num_classes=generator.randint(1, 30),
        image_size=generator.choice([28, 32, 45, 64, 96, 111]),
        dims=tuple(head_dim * count for count in heads),
        depths=tuple(generator.choice([1, 1, 1, 2]) for _ in range(4)),
        heads=heads,
        windows=tuple(generator.randint(1, 9) for _ in range(4)),
        mlp_ratio=generator.choice([1, 1.5, 2.3, 4.0]),
        expand=generator.choice([0.5, 2, 3.1, 4.0]),
        stem_stride=generator.choice([2, 4]),
    )


def test_cost_equals_the_counts_of_200_built_networks() -> None:
    generator = random.Random(0)
    for _ in range(200):
        config = random_config(generator)
        with torch.device("meta"):
            net = TinyViT(config)
        counted = Cost(models.count_params(net), models.count_macs(net, config.image_size))
        assert cost_of(config) == counted, config


@pytest.mark.parametrize("name", PUBLISHED)
def test_cost_of_the_published_models_at_two_sizes(name: str) -> None:
    with torch.device("meta"):
        net = models.build(name, num_classes=1000, image_size=224)
    for size in (224, 200):
        assert cost_of(net.config, image_size=size) == Cost(models.count_params(net), models.count_macs(net, size))
