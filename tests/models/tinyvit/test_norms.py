"""Kinds of BatchNorm in one process; several processes are in tests/distill/test_many_processes.py."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from distill import models
from distill.models.tinyvit.norms import FrozenBatchNorm, SyncBatchNorm, use_norms
from tests.conftest import TINY


def student() -> models.TinyViT:
    torch.manual_seed(0)
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    for norm in norms(net):
        assert norm.running_mean is not None and norm.running_var is not None
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return net


def norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(("kind", "made"), [("sync", SyncBatchNorm), ("frozen", FrozenBatchNorm)])
def test_every_norm_is_replaced_and_keeps_its_names_and_values(kind: str, made: type[nn.Module]) -> None:
    net = student()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in net.state_dict(keep_vars=True).items()}
    use_norms(net, kind)
    assert norms(net) and all(type(norm) is made for norm in norms(net))
    after = net.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(id(after[name]) == before[name][0] for name in before)
    assert all(torch.equal(after[name], before[name][1]) for name in before)


def test_frozen_norms_keep_statistics_and_train_scale_and_shift() -> None:
    net = student()
    expected = copy.deepcopy(net).eval()
    use_norms(net, "frozen")
    pixels = torch.randn(4, 3, 32, 32)
    statistics = {name: buffer.clone() for name, buffer in net.named_buffers()}
    for mode in (True, False):
        net.train(mode)
        assert net.training is mode and not any(norm.training for norm in norms(net))
        torch.testing.assert_close(net(pixels), expected(pixels))
    net.train()(pixels).square().sum().backward()
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in net.named_buffers())
    assert all(norm.weight.grad is not None and norm.weight.grad.abs().sum() > 0 for norm in norms(net)[:1])


def test_sync_norms_of_one_process_are_ordinary_ones() -> None:
    net = student()
    plain = copy.deepcopy(net)
    use_norms(net, "sync")
    pixels = torch.randn(4, 3, 32, 32)
    assert torch.equal(net(pixels), plain(pixels))
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), plain.buffers(), strict=True))


def test_local_norms_are_torchs_and_own_is_their_earlier_name() -> None:
    net = student()
    before = norms(net)
    for kind in ("local", "own"):
        use_norms(net, kind)
        assert all(now is then for now, then in zip(norms(net), before, strict=True))
    with pytest.raises(models.ModelError, match="unknown kind of BatchNorm 'joint'; known: local, sync, frozen"):
        use_norms(net, "joint")
