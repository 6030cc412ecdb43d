"""Learning rate and weight decay."""

from __future__ import annotations

import pytest

from distill import models
from distill.config import OptimConfig
from distill.student.optim import adamw, layer_lr_scales, schedule, set_lr
from tests.conftest import TINY


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    config = OptimConfig(lr=1e-3, warmup_lr=1e-6, min_lr=1e-5, base_batch=512, warmup_epochs=2)
    lr = schedule(config, global_batch=1024, steps_per_epoch=10, total_steps=120)
    assert lr(0) == pytest.approx(2e-6)
    assert lr(10) == pytest.approx(2e-6 + (2e-3 - 2e-6) / 2)
    assert lr(20) == pytest.approx(2e-3)
    assert lr(70) == pytest.approx((2e-3 + 2e-5) / 2)
    assert lr(119) == pytest.approx(2e-5, rel=0.05)
    assert all(lr(step) >= lr(step + 1) for step in range(20, 119))


def test_learning_rates_are_not_scaled_without_a_base_batch() -> None:
    config = OptimConfig(lr=1e-3, base_batch=None, warmup_epochs=0)
    assert schedule(config, global_batch=64, steps_per_epoch=10, total_steps=50)(0) == pytest.approx(1e-3)


def test_the_published_cosine_runs_from_the_first_step_and_warm_up_hides_its_beginning() -> None:
    """At 5 of 30 epochs the cosine has fallen to (1 + cos 30 deg) / 2 = 0.933 of the way."""
    config = OptimConfig(lr=2.5e-4, warmup_lr=5e-7, min_lr=1e-5, warmup_epochs=5, cosine="from_start")
    lr = schedule(config, global_batch=1024, steps_per_epoch=10, total_steps=300)
    assert lr(49) == pytest.approx(1e-6 + (5e-4 - 1e-6) * 49 / 50)
    assert lr(50) == pytest.approx(2e-5 + (5e-4 - 2e-5) * 0.9330127)
    assert lr(150) == pytest.approx((5e-4 + 2e-5) / 2)


def test_learning_rates_decay_from_layer_to_layer_as_published() -> None:
    """Twelve blocks: the stem as the first, a merging as the block before it, the head as the last."""
    net = models.build("tiny_vit_5m", num_classes=10)
    scales = layer_lr_scales(net, decay=0.8)
    blocks = [(stage, index) for stage, depth in enumerate((2, 2, 6, 2)) for index in range(depth)]
    expected = {f"stages.{stage}.blocks.{index}.": 0.8 ** (11 - n) for n, (stage, index) in enumerate(blocks)}
    expected |= {"patch_embed.": 0.8**11, "head.": 1.0}
    expected |= {"stages.1.downsample.": 0.8**10, "stages.2.downsample.": 0.8**8, "stages.3.downsample.": 0.8**2}
    for name, scale in scales.items():
        (start,) = [start for start in expected if name.startswith(start)]
        assert scale == pytest.approx(expected[start]), name
    assert {name for name, _ in net.named_parameters()} == set(scales)


def test_each_group_gets_its_scaled_learning_rate() -> None:
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    scales = layer_lr_scales(net, decay=0.5)
    optimizer = adamw(net, OptimConfig(layer_decay=0.5, weight_decay=0.05))
    set_lr(optimizer, 0.1)
    lrs = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert lrs[id(parameter)] == pytest.approx(0.1 * scales[name])
    assert len(optimizer.param_groups) == 2 * 4
    set_lr(adamw(net, OptimConfig()), 0.1)
    assert len(adamw(net, OptimConfig()).param_groups) == 2


def test_a_warm_up_longer_than_the_run_is_cut() -> None:
    lr = schedule(OptimConfig(warmup_epochs=5), global_batch=512, steps_per_epoch=10, total_steps=20)
    assert lr(19) < 5e-4


def test_only_kernels_and_matrices_decay() -> None:
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    optimizer = adamw(net, OptimConfig(weight_decay=0.05))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        no_decay = parameter.ndim <= 1 or "attention_bias" in name
        assert decays[id(parameter)] == (0 if no_decay else 0.05), name
