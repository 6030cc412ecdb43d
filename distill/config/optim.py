"""Optimiser and learning rate."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.config.checks import at_least, choice
from distill.errors import UsageError


@dataclass(kw_only=True)
class OptimConfig:
    """AdamW and the schedule of its learning rate. The three learning rates scale with the global batch."""

    lr: float = 5e-4
    """Peak learning rate at a global batch of `base_batch`."""
    warmup_lr: float = 5e-7
    """Learning rate of the first step."""
    min_lr: float = 5e-6
    """Learning rate of the last step."""
    base_batch: int | None = 512
    """The learning rates are multiplied by global batch / base_batch; null: taken as they are."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up."""
    cosine: str = "after_warmup"
    """Where the cosine begins: `after_warmup`, or `from_start` (as published): it runs over the whole training, and
    warm-up replaces its beginning."""
    layer_decay: float = 1.0
    """Factor on the learning rate from each block to the one below it; 1: the same learning rate everywhere."""
    weight_decay: float = 0.05
    """Not applied to biases, norms and attention biases."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """AdamW's beta1 and beta2."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    clip_grad: float | None = 5.0
    """Largest norm of the gradient; null: not clipped."""

    def __post_init__(self) -> None:
        at_least(0, optim__lr=self.lr, optim__warmup_lr=self.warmup_lr, optim__min_lr=self.min_lr)
        at_least(0, optim__warmup_epochs=self.warmup_epochs, optim__weight_decay=self.weight_decay)
        at_least(1, optim__base_batch=self.base_batch)
        choice("optim.cosine", self.cosine, ("after_warmup", "from_start"))
        if not 0 < self.layer_decay <= 1:
            raise UsageError(f"optim.layer_decay={self.layer_decay}: must be more than 0 and at most 1")
