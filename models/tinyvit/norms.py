# mypy: disable-error-code="no-untyped-call, no-any-return, untyped-decorator"
# (torch does not type what a module returns)
"""The kinds of batch normalisation a network can be trained with, put in place of the ordinary one.

    own      statistics of the batch of each process: torch's BatchNorm, left as it is
    sync     statistics of the batches of all processes together, as if one process had them all
    frozen   the statistics that were loaded, never changed: BatchNorm in evaluation mode; scale and shift are trained

The names of weights and statistics stay, so weights go from one kind to another. Ioffe & Szegedy, ICML 2015; frozen as
in the published fine-tuning of TinyViT.

Shape suffixes: b batch, c channels, h and w height and width, p processes.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

KINDS = ("own", "sync", "frozen")


class FrozenBatchNorm(nn.BatchNorm2d):
    """BatchNorm that always takes the statistics it holds, whatever mode the network is in."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        return super().train(False)


class SyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes; torch's own takes no tensors on a CPU.

    Every process must call it equally often, each with one picture at least; their numbers may differ. Statistics are
    combined from each process's mean and variance (Chan et al., "Updating formulae", 1979), in float32 and in the order
    of ranks, so they are equal to the last bit everywhere.
    """

    @torch.compiler.disable
    def forward(self, x_bchw: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x_bchw)
        y_bchw, mean_c, var_c, count = _Synchronised.apply(x_bchw, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._track(mean_c, var_c, count)
        return y_bchw

    @torch.no_grad()
    def _track(self, mean_c: Tensor, var_c: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked.add_(1)
        unbiased_c = var_c * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean_c.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_c.to(self.running_var.dtype), self.momentum)


class _Synchronised(torch.autograd.Function):
    """Normalises by joint statistics. Weight and bias get the gradient of this process's loss; the input that of the
    sum of all losses, since its statistics reach every one of them."""

    @staticmethod
    def forward(ctx: Any, x_bchw: Tensor, weight_c: Tensor, bias_c: Tensor, eps: float) -> tuple[Tensor, ...]:
        x = x_bchw.float() if x_bchw.dtype != torch.float64 else x_bchw
        count = x.numel() // x.shape[1]
        var_c, mean_c = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        own = torch.cat([mean_c, var_c, mean_c.new_tensor([count])])
        mean_pc, var_pc, count_p1 = _gathered(own).split([x.shape[1], x.shape[1], 1], dim=1)
        total = count_p1.sum()
        mean_c = (mean_pc * count_p1).sum(dim=0) / total
        var_c = ((var_pc + (mean_pc - mean_c).square()) * count_p1).sum(dim=0) / total
        inverse_c = (var_c + eps).rsqrt()
        ctx.save_for_backward(x_bchw, weight_c, mean_c, inverse_c, total)
        y_bchw = (x - _wide(mean_c)) * _wide(inverse_c * weight_c) + _wide(bias_c)
        ctx.mark_non_differentiable(mean_c, var_c, total)
        return y_bchw.to(x_bchw.dtype), mean_c, var_c, total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_bchw, weight_c, mean_c, inverse_c, total = ctx.saved_tensors
        dy_bchw = grads[0].to(mean_c.dtype)
        hat_bchw = (x_bchw.to(mean_c.dtype) - _wide(mean_c)) * _wide(inverse_c)
        bias_grad_c = dy_bchw.sum(dim=(0, 2, 3))
        weight_grad_c = (dy_bchw * hat_bchw).sum(dim=(0, 2, 3))
        sums_c, sums_hat_c = _gathered(torch.cat([bias_grad_c, weight_grad_c])).sum(dim=0).chunk(2)
        centred_bchw = dy_bchw - _wide(sums_c / total) - hat_bchw * _wide(sums_hat_c / total)
        dx_bchw = centred_bchw * _wide(inverse_c * weight_c)
        return dx_bchw.to(x_bchw.dtype), weight_grad_c.to(weight_c.dtype), bias_grad_c.to(weight_c.dtype), None


def use_norms(net: nn.Module, kind: str) -> None:
    """Gives every BatchNorm of `net` another kind, in place, with its weights and statistics.

    **Arguments:** `kind`, one of `KINDS`. On a GPU `sync` is torch's own, faster module of the same arithmetic; so
    call this after the network is on its device and before it is compiled or wrapped.
    """
    if kind == "own":
        return
    assert kind in KINDS, kind
    for name, child in list(net.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(net, name, _converted(child, kind))
        else:
            use_norms(child, kind)


def _converted(norm: nn.BatchNorm2d, kind: str) -> nn.Module:
    if kind == "sync" and norm.weight.is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    made = (SyncBatchNorm if kind == "sync" else FrozenBatchNorm)(norm.num_features, norm.eps, norm.momentum)
    made.weight, made.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers():
        setattr(made, name, buffer)
    return made.train(norm.training)


def _gathered(values_n: Tensor) -> Tensor:
    """(n,) of this process -> (p, n) of all, in the order of ranks."""
    parts = [torch.empty_like(values_n) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values_n.contiguous())
    return torch.stack(parts)


def _wide(values_c: Tensor) -> Tensor:
    return values_c.view(1, -1, 1, 1)
