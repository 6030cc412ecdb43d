"""The optimiser and its learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from timm.optim._param_groups import param_groups_weight_decay

from distill.config import OptimConfig
from models import TinyViT


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Linear warm-up, then a half cosine down to the smallest rate (Loshchilov & Hutter, SGDR, ICLR 2017)."""

    peak: float
    first: float
    last: float
    warmup_steps: int
    total_steps: int

    def __call__(self, step: int) -> float:
        """Learning rate of optimiser step `step`, 0 <= step < total_steps."""
        if step < self.warmup_steps:
            return self.first + (self.peak - self.first) * step / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.last + (self.peak - self.last) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def schedule(config: OptimConfig, *, global_batch: int, steps_per_epoch: int, total_steps: int) -> Schedule:
    """The run's schedule, its rates scaled linearly with the global batch (Goyal et al., 2017)."""
    scale = global_batch / config.base_batch if config.base_batch else 1.0
    return Schedule(
        peak=config.lr * scale,
        first=config.warmup_lr * scale,
        last=config.min_lr * scale,
        warmup_steps=min(round(config.warmup_epochs * steps_per_epoch), total_steps),
        total_steps=total_steps,
    )


def adamw(net: TinyViT, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only: not on biases, norms, nor what the model names."""
    groups = param_groups_weight_decay(
        net, weight_decay=config.weight_decay, no_weight_decay_list=tuple(net.no_weight_decay())
    )
    on_gpu = next(net.parameters()).is_cuda
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps, fused=True if on_gpu else None
    )
