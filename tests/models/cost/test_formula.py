"""The cost of an architecture without building it: equal to what is counted of the built network, to the last unit."""

import random

import pytest
import torch

from distill import models
from distill.models.cost.formula import Cost, cost_of
from distill.models.tinyvit.config import PUBLISHED, TinyViTConfig
from distill.models.tinyvit.network import TinyViT


def random_config(chance: random.Random) -> TinyViTConfig:
    head_dim = chance.choice([2, 4, 8, 16])
    heads = tuple(chance.randint(1, 5) for _ in range(4))
    return TinyViTConfig(
        num_classes=chance.randint(1, 30),
        image_size=chance.choice([28, 32, 45, 64, 96, 111]),
        dims=tuple(head_dim * count for count in heads),
        depths=tuple(chance.choice([1, 1, 1, 2]) for _ in range(4)),
        heads=heads,
        windows=tuple(chance.randint(1, 9) for _ in range(4)),
        mlp_ratio=chance.choice([1, 1.5, 2.3, 4.0]),
        expand=chance.choice([0.5, 2, 3.1, 4.0]),
        stem_stride=chance.choice([2, 4]),
    )


def test_cost_equals_the_counts_of_200_built_networks() -> None:
    chance = random.Random(0)
    for _ in range(200):
        config = random_config(chance)
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
