"""The optimiser, and its learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from distill.config import OptimConfig
from distill.models import TinyViT


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The learning rate: linear warm-up, then a half cosine down to `last` (Loshchilov & Hutter, SGDR, ICLR 2017)."""

    peak: float
    first: float
    last: float
    warmup_steps: int
    total_steps: int
    cosine_start: int = 0
    """Step at which the cosine has its peak."""

    def __call__(self, step: int) -> float:
        """Learning rate of optimiser step `step`, 0 <= step < total_steps."""
        if step < self.warmup_steps:
            return self.first + (self.peak - self.first) * step / self.warmup_steps
        progress = (step - self.cosine_start) / max(1, self.total_steps - self.cosine_start)
        return self.last + (self.peak - self.last) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def schedule(config: OptimConfig, *, global_batch: int, steps_per_epoch: int, total_steps: int) -> Schedule:
    """The run's schedule, its learning rates scaled linearly with the global batch size (Goyal et al., 2017)."""
    scale = global_batch / config.base_batch if config.base_batch else 1.0
    warmup_steps = min(round(config.warmup_epochs * steps_per_epoch), total_steps)
    return Schedule(
        peak=config.lr * scale,
        first=config.warmup_lr * scale,
        last=config.min_lr * scale,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        cosine_start=warmup_steps if config.cosine == "after_warmup" else 0,
    )


def adamw(net: TinyViT, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, ICLR 2019) with a group for each combination of weight decay and learning rate.

    Weight decay is for matrices and kernels; not for biases, norms and the parameters that the model names. A group's
    `lr_scale` is the factor by which `set_lr` multiplies the schedule's learning rate.
    """
    no_decay = net.no_weight_decay()
    scales = layer_lr_scales(net, decay=config.layer_decay)
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith(".bias") and name not in no_decay
        groups.setdefault((scales[name], config.weight_decay if decays else 0.0), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": group, "weight_decay": decay, "lr_scale": scale} for (scale, decay), group in groups.items()],
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
        fused=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group: `lr` times the group's `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def layer_lr_scales(net: TinyViT, *, decay: float) -> dict[str, float]:
    """Layer-wise learning rate decay: the factor of the learning rate for each parameter, by name.

    The blocks of all stages are numbered 0 to D - 1. Block i has the factor `decay ** (D - 1 - i)`; the stem has that
    of block 0; a patch merging has that of the last block before it; the head has 1. This is the rule of the published
    fine-tuning (github.com/microsoft/Cream, TinyViT/models/tiny_vit.py, set_layer_lr_decay).
    """
    depths = net.config.depths
    last = sum(depths) - 1

    def block_of(name: str) -> int:
        if name.startswith("patch_embed."):
            return 0
        if not name.startswith("stages."):
            return last
        _, stage, part, index, *_ = name.split(".")
        first = sum(depths[: int(stage)])
        return first + int(index) if part == "blocks" else first - 1

    return {name: decay ** (last - block_of(name)) for name, _ in net.named_parameters()}
