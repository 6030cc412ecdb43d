"""The kinds of batch normalisation that a network can be trained with.

    local    statistics of the batch of each process: torch's BatchNorm
    sync     statistics of the batches of all processes together, as if one process had the whole batch
    frozen   the loaded statistics, never updated: BatchNorm in evaluation mode; scale and shift are trained

Weights and statistics have the same names in all three, so weights move between them. Ioffe & Szegedy, ICML 2015;
frozen as in the published fine-tuning of TinyViT.

Shape suffixes: b batch, c channels, h and w height and width, p processes.
"""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from distill.models.errors import ModelError

KINDS = ("local", "sync", "frozen")
ALIASES = {"own": "local"}
"""Earlier names of kinds, which are still accepted."""


class FrozenBatchNorm(nn.BatchNorm2d):
    """BatchNorm that always normalises with its running statistics, whatever mode the network is in."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class SyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, on a CPU, where torch's own raises an error.

    The tests of one process against several train with it (tests/distill/test_many_processes.py): only with joint
    statistics are the losses and gradients of a global batch the same however it is divided over processes.

    Every process must call it equally often, with at least one image; the numbers of images may differ. Statistics are
    combined from each process's mean and variance (Chan et al., "Updating formulae", 1979), in float32 and in the order
    of ranks, so they are equal to the last bit in all processes.
    """

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
    def forward(self, x_bchw: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x_bchw)
        y_bchw: Tensor
        y_bchw, mean_c, var_c, count = _SyncBatchNormFunction.apply(x_bchw, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._update_running_statistics(mean_c, var_c, count)
        return y_bchw

    @torch.no_grad()
    def _update_running_statistics(self, mean_c: Tensor, var_c: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        unbiased_c = var_c * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean_c.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_c.to(self.running_var.dtype), self.momentum)


class _SyncBatchNormFunction(torch.autograd.Function):
    """Normalises with joint statistics. Weight and bias get the gradient of this process's loss; the input gets the
    gradient of the sum of all processes' losses, because the statistics of its batch enter all of them."""

    @staticmethod
    def forward(ctx: Any, x_bchw: Tensor, weight_c: Tensor, bias_c: Tensor, eps: float) -> tuple[Tensor, ...]:
        x = x_bchw.float() if x_bchw.dtype != torch.float64 else x_bchw
        count = x.numel() // x.shape[1]
        var_c, mean_c = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        local = torch.cat([mean_c, var_c, mean_c.new_tensor([count])])
        mean_pc, var_pc, count_p1 = torch.split(_all_gather(local), [x.shape[1], x.shape[1], 1], dim=1)
        total = count_p1.sum()
        mean_c = (mean_pc * count_p1).sum(dim=0) / total
        var_c = ((var_pc + (mean_pc - mean_c).square()) * count_p1).sum(dim=0) / total
        inverse_std_c = (var_c + eps).rsqrt()
        ctx.save_for_backward(x_bchw, weight_c, mean_c, inverse_std_c, total)
        y_bchw = (x - _per_channel(mean_c)) * _per_channel(inverse_std_c * weight_c) + _per_channel(bias_c)
        ctx.mark_non_differentiable(mean_c, var_c, total)
        return y_bchw.to(x_bchw.dtype), mean_c, var_c, total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_bchw, weight_c, mean_c, inverse_std_c, total = ctx.saved_tensors
        dy_bchw = grads[0].to(mean_c.dtype)
        normalised_bchw = (x_bchw.to(mean_c.dtype) - _per_channel(mean_c)) * _per_channel(inverse_std_c)
        bias_grad_c = dy_bchw.sum(dim=(0, 2, 3))
        weight_grad_c = (dy_bchw * normalised_bchw).sum(dim=(0, 2, 3))
        bias_sum_c, weight_sum_c = _all_gather(torch.cat([bias_grad_c, weight_grad_c])).sum(dim=0).chunk(2)
        centred_bchw = dy_bchw - _per_channel(bias_sum_c / total) - normalised_bchw * _per_channel(weight_sum_c / total)
        dx_bchw = centred_bchw * _per_channel(inverse_std_c * weight_c)
        return dx_bchw.to(x_bchw.dtype), weight_grad_c.to(weight_c.dtype), bias_grad_c.to(weight_c.dtype), None


def use_norms(net: nn.Module, kind: str) -> None:
    """Replaces every BatchNorm2d of `net`, in place, by one of another kind with the same weights and statistics.

    **Arguments:** `kind`: `local` (each process's batch: nothing is replaced), `sync` (the batches of all processes) or
    `frozen` (the loaded statistics). `sync` on a GPU is torch's `nn.SyncBatchNorm`; so call this after the network is
    on its device and before it is compiled or wrapped.

    **Raises** ModelError for another kind.
    """
    kind = ALIASES.get(kind, kind)
    if kind not in KINDS:
        raise ModelError(f"unknown kind of BatchNorm {kind!r}; known: {', '.join(KINDS)}")
    if kind == "local":
        return
    for name, child in list(net.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(net, name, _converted(child, kind))
        else:
            use_norms(child, kind)


def _converted(norm: nn.BatchNorm2d, kind: str) -> nn.Module:
    if kind == "sync" and norm.weight.is_cuda:
        on_gpu: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]  # by torch
        return on_gpu
    converted = (SyncBatchNorm if kind == "sync" else FrozenBatchNorm)(norm.num_features, norm.eps, norm.momentum)
    converted.weight, converted.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(converted, name, buffer)
    return converted.train(norm.training)


def _all_gather(values_n: Tensor) -> Tensor:
    """(n,) of this process -> (p, n) of all, in the order of ranks."""
    gathered = [torch.empty_like(values_n) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, values_n.contiguous())
    return torch.stack(gathered)


def _per_channel(values_c: Tensor) -> Tensor:
    """(c,) -> (1, c, 1, 1)."""
    return values_c.view(1, -1, 1, 1)
