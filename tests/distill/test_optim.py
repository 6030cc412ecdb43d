"""Learning rate and weight decay."""

from __future__ import annotations

import pytest

import models
from distill.config import OptimConfig
from distill.optim import adamw, schedule
from tests.conftest import TINY


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    config = OptimConfig(lr=1e-3, warmup_lr=1e-6, min_lr=1e-5, base_batch=512, warmup_epochs=2)
    rate = schedule(config, global_batch=1024, steps_per_epoch=10, total_steps=120)
    assert rate(0) == pytest.approx(2e-6)
    assert rate(10) == pytest.approx(2e-6 + (2e-3 - 2e-6) / 2)
    assert rate(20) == pytest.approx(2e-3)
    assert rate(70) == pytest.approx((2e-3 + 2e-5) / 2)
    assert rate(119) == pytest.approx(2e-5, rel=0.05)
    assert all(rate(step) >= rate(step + 1) for step in range(20, 119))


def test_rates_are_taken_as_they_are_without_a_base_batch() -> None:
    config = OptimConfig(lr=1e-3, base_batch=None, warmup_epochs=0)
    assert schedule(config, global_batch=64, steps_per_epoch=10, total_steps=50)(0) == pytest.approx(1e-3)


def test_a_warm_up_longer_than_the_run_is_cut() -> None:
    rate = schedule(OptimConfig(warmup_epochs=5), global_batch=512, steps_per_epoch=10, total_steps=20)
    assert rate(19) < 5e-4


def test_only_kernels_and_matrices_decay() -> None:
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    optimizer = adamw(net, OptimConfig(weight_decay=0.05))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        spared = parameter.ndim <= 1 or "attention_bias" in name
        assert decays[id(parameter)] == (0 if spared else 0.05), name
