"""Precision, memory layout and threads of a program."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.checks import at_least, choice


@dataclass(kw_only=True)
class ComputeConfig:
    precision: str = "no"
    """Autocast of the forward pass: `no`, `bf16` or `fp16`."""
    channels_last: bool = True
    compile: bool = False
    """torch.compile the model."""
    compile_backend: str = "inductor"
    """Of torch.compile; `aot_eager` needs no compiler and is no faster, for tests."""
    threads: int | None = None
    """CPU threads of each process; null: torch's choice."""

    def __post_init__(self) -> None:
        choice("compute.precision", self.precision, ("no", "bf16", "fp16"))
        at_least(1, compute__threads=self.threads)
