"""The meter of a training."""

from __future__ import annotations

import json
from typing import Any

import torch

from distill.student.meter import Meter


def test_an_interrupted_interval_gives_the_line_of_an_uninterrupted_one() -> None:
    class Alone:
        class accelerator:
            @staticmethod
            def reduce(tensor: torch.Tensor, reduction: str) -> torch.Tensor:
                return tensor

    runtime: Any = Alone()
    generator = torch.Generator().manual_seed(0)
    steps = [torch.randn(8, 3, generator=generator) for _ in range(5)]

    def feed(meter: Meter, numbers: range) -> None:
        for number in numbers:
            meter.add(steps[number], torch.arange(8) % 3 - 1, None)
            meter.add_step(number, steps[number].sum(), steps[number].norm())

    whole, first, second = Meter(), Meter(), Meter()
    feed(whole, range(5))
    feed(first, range(3))
    first.flush(runtime)
    second.restore(json.loads(json.dumps(first.state())))
    feed(second, range(3, 5))
    expected = whole.read(runtime)
    assert second.read(runtime) == expected
    assert expected["grad_norm"] > 0
    feed(whole, range(2))
    assert whole.read(runtime) != expected
