"""The distillation loss."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config import former
from distill.config.checks import choice
from distill.errors import UsageError


@dataclass(kw_only=True)
class LossConfig:
    """The distillation loss: cross entropy with the stored distribution."""

    tail: str = "stored"
    """How the mass outside the top-k is distributed over the other classes: `stored`, as the store says (`learned` if
    it holds learned tail distributions, else `uniform`), `uniform`, `learned`, or `bucket` (all of them as one
    class); see `distill.targets.losses`."""
    temperature: float = 1.0
    """Temperature of both distributions."""

    def __post_init__(self) -> None:
        if reason := former.removed("loss.tail", self.tail):
            raise UsageError(reason)
        choice("loss.tail", self.tail, ("stored", "uniform", "learned", "bucket"))
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"loss.temperature={self.temperature}: must be above 0")
