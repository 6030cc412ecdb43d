"""Histograms and axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distill.page import charts
from distill.page.scan import BINS, RunningHistogram


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
@example([4.8e-52, 8.1e-93])
@example([5e-324])
def test_ticks_are_few_even_and_reach_past_the_values(values: list[float]) -> None:
    ticks = charts.nice_ticks(values)
    assert 2 <= len(ticks) <= 7
    gaps = np.diff(ticks)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-6)
    slack = 1e-6 * gaps[0] + 1e-9 * max(map(abs, ticks))
    assert ticks[0] <= min(values) + slack and ticks[-1] >= max(values) - slack


def test_a_histogram_of_nothing_is_no_error() -> None:
    assert charts.draw_histogram(RunningHistogram(1.0), title="Entropy").bars == ()
    histogram = RunningHistogram(2.0)
    histogram.add(np.array([0.0, 2.0, 2.0]))
    made = charts.draw_histogram(histogram, title="Entropy", unit="nats")
    assert [(bar.x, bar.height) for bar in made.bars] == [(0, 50), (pytest.approx(100 - 100 / BINS), 100)]
    assert "1.93 to 2 nats: 2 views (66.7%)" in made.description and made.ticks == ("0", "0.5", "1", "1.5", "2")
