"""What `distill.verify_logits` checks of a store, or shows of it."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least


@dataclass(kw_only=True)
class CheckConfig:
    """What is checked."""

    blocks: int | None = None
    """Blocks whose proofs are checked, uniformly spaced over the store; null: all."""
    rows: int = 256
    """Rows that the teacher is run on again; 0: none."""
    seed: int = 0
    """Seed that selects these rows."""
    tolerance: float = 0.2
    """Largest difference of a stored log-probability from the teacher's, in nats."""

    def __post_init__(self) -> None:
        at_least(1, check__blocks=self.blocks)
        at_least(0, check__rows=self.rows, check__tolerance=self.tolerance)


@dataclass(kw_only=True)
class OneViewConfig:
    """One view to show instead of the checks."""

    epoch: int = 0
    """Its stored epoch."""
    row: int | None = None
    """Its row; null: check the store."""
    png: str = "view.png"
    """File for the rendered view."""
    size: int | None = None
    """Its side in pixels; null: the teacher's input size."""
