"""What is checked of a store."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least


@dataclass(kw_only=True)
class CheckConfig:
    blocks: int | None = None
    """Blocks whose proofs are checked, spread over the store; null: all."""
    rows: int = 256
    """Rows that the teacher is run on again; 0: none."""
    seed: int = 0
    """Picks the rows."""
    tolerance: float = 0.2
    """Largest difference of a kept log-probability, in nats, between store and teacher."""

    def __post_init__(self) -> None:
        at_least(1, check__blocks=self.blocks)
        at_least(0, check__rows=self.rows, check__tolerance=self.tolerance)


@dataclass(kw_only=True)
class OneViewConfig:
    epoch: int = 0
    row: int | None = None
    """Explain this row's view instead of checking the store; null: check."""
    png: str = "view.png"
    """Where the rendered view is saved."""
    size: int | None = None
    """Its side in pixels; null: the teacher's input size."""
