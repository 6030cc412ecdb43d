"""Optimiser and learning rate."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.config.checks import at_least, choice
from distill.errors import UsageError


@dataclass(kw_only=True)
class OptimConfig:
    lr: float = 5e-4
    """Peak learning rate at a global batch of `base_batch`."""
    warmup_lr: float = 5e-7
    """Learning rate of the first step, scaled alike."""
    min_lr: float = 5e-6
    """Learning rate at the end, scaled alike."""
    base_batch: int | None = 512
    """Learning rates are multiplied by global batch / base_batch; null: taken as they are."""
    warmup_epochs: float = 1.0
    cosine: str = "after_warmup"
    """Where the fall begins that follows warm-up: `after_warmup`, or `from_start`: the cosine runs over the whole of
    training and warm-up hides its beginning, as published."""
    layer_decay: float = 1.0
    """Learning rates fall by this factor from each block to the one below it (`optim.layer_lr_scales`); 1: they do
    not."""
    weight_decay: float = 0.05
    """Not applied to biases, norms and attention biases."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8
    clip_grad: float | None = 5.0
    """Largest norm of the gradient; null: not clipped."""

    def __post_init__(self) -> None:
        at_least(0, optim__lr=self.lr, optim__warmup_lr=self.warmup_lr, optim__min_lr=self.min_lr)
        at_least(0, optim__warmup_epochs=self.warmup_epochs, optim__weight_decay=self.weight_decay)
        at_least(1, optim__base_batch=self.base_batch)
        choice("optim.cosine", self.cosine, ("after_warmup", "from_start"))
        if not 0 < self.layer_decay <= 1:
            raise UsageError(f"optim.layer_decay={self.layer_decay}: must be more than 0 and at most 1")
