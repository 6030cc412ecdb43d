"""Precision, memory format and threads."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least, choice


@dataclass(kw_only=True)
class ComputeConfig:
    """Precision, memory format and threads."""

    precision: str = "no"
    """Autocast of the forward pass: `no` (float32), `bf16`, or `fp16` (on a GPU)."""
    channels_last: bool = True
    """Memory format of weights and images; false: contiguous."""
    compile: bool = False
    """Compile the model with torch.compile."""
    threads: int | None = None
    """CPU threads of each process; null: torch's default."""

    def __post_init__(self) -> None:
        choice("compute.precision", self.precision, ("no", "bf16", "fp16"))
        at_least(1, compute__threads=self.threads)
