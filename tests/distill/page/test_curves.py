"""Training runs for the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distill.errors import DistillError
from distill.page import charts, curves
from tests.distill.page.conftest import write_run


def test_a_run_is_read_while_it_is_running(tmp_path: Path) -> None:
    lines = [json.dumps({"step": n, "epoch": n / 10, "loss": 5 - n / 10, "agreement": n / 20}) for n in range(1, 5)]
    run = curves.read_run(str(write_run(tmp_path / "a", [*lines, '{"step": 5, "ep'], finished=False)))
    assert not run.finished and run.student == "tiny_vit_5m" and run.trained_on == "labels"
    assert run.curves["loss"] == ((0.1, 4.9), (0.2, 4.8), (0.3, 4.7), (0.4, 4.6))
    assert run.curves["agreement"][-1] == (0.4, 20.0)
    assert run.facts[0] == ("steps", "4 so far")
    drawn = charts.draw_panels([run])
    assert [panel.title for panel in drawn] == ["Loss", curves.PANELS["agreement"][0]]
    assert len(drawn[0].lines[0].points.split()) == 4


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"not the folder of a run"):
        curves.read_run(str(tmp_path))
    with pytest.raises(DistillError, match=r"no line of metrics yet"):
        curves.read_run(str(write_run(tmp_path / "empty", [])))
    with pytest.raises(DistillError, match=r"line 1, is no line of metrics"):
        curves.read_run(str(write_run(tmp_path / "bad", ["{", '{"step": 1, "epoch": 1, "loss": 1}'])))
    (tmp_path / "bad" / "metrics.jsonl").unlink()
    with pytest.raises(DistillError, match=r"has no metrics.jsonl"):
        curves.read_run(str(tmp_path / "bad"))


def test_thinned_points_keep_mean_and_end() -> None:
    points = [(float(n), float(n % 7)) for n in range(1234)]
    thin = curves.thinned(points)
    assert len(thin) == curves.MAX_POINTS and thin[-1][0] == 1233
    sizes = np.diff([0, *(x + 1 for x, _ in thin)])
    assert np.dot(sizes, [y for _, y in thin]) == pytest.approx(sum(y for _, y in points))
