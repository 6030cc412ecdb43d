"""How the student is held against the teacher."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import choice
from distill.errors import UsageError


@dataclass(kw_only=True)
class LossConfig:
    tail: str = "stored"
    """The classes that the store does not keep: `stored`, as the store says, `learned` if it has learned them and else
    `uniform`; or one of `uniform`, `learned`, `bucket`, `dropped`; see `distill.targets.losses`."""
    temperature: float = 1.0
    """Both distributions are softened by it."""

    def __post_init__(self) -> None:
        choice("loss.tail", self.tail, ("stored", "uniform", "learned", "bucket", "dropped"))
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"loss.temperature={self.temperature}: must be above 0")
