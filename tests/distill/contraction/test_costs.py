"""The limits of the rounds between the costs and the final limits."""

from __future__ import annotations

import pytest

from distill.contraction.costs import round_limits, within


def test_limits_of_a_round_fall_together_and_end_at_the_final_limits() -> None:
    costs = {"params": 16.0, "macs": 10.0, "latency_ms": 1.0}
    final_limits = {"params": 1.0, "macs": 9.0, "latency_ms": 2.0}
    rounds = 0
    while not within(costs, final_limits):
        limits = round_limits(costs, final_limits, shrink=0.5)
        assert limits["latency_ms"] == 2.0
        assert limits["params"] == pytest.approx(costs["params"] / 2)
        costs |= {name: limits[name] for name in ("params", "macs")}
        rounds += 1
    assert rounds == 4
    assert limits == final_limits
