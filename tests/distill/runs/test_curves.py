"""Metrics read from a run's folder and drawn as a figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import DistillError
from distill.runs.curves import draw_curves
from distill.runs.metric_log import read_metrics, series


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "epoch": 0.5, "loss": 2.0}\n{"step": 2, "epoch": 1.0, "top1": 50.0}\n{"step": 3, "ep')
    lines = read_metrics(path)
    assert series(lines, "loss") == [(0.5, 2.0)] and series(lines, "top1", over="step") == [(2.0, 50.0)]
    path.write_text('{"step": 1, "ep\n{"step": 2, "epoch": 1.0, "top1": 50.0}\n')
    with pytest.raises(DistillError, match=r"line 1, is no line of metrics"):
        read_metrics(path)


def test_runs_are_drawn_in_one_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    saved = []
    monkeypatch.setattr(figure, "savefig", lambda self, path, **more: saved.append(self))
    runs = {
        "a": [{"step": n, "epoch": n / 10, "loss": 3 - n, "lr": 0.1} for n in range(3)],
        "b": [{"step": n, "epoch": n / 10, "loss": 4 - n} for n in range(3)],
    }
    assert draw_curves(runs, tmp_path / "curves.png", over="step")
    loss, lr = saved[0].axes
    assert [line.get_label() for line in loss.lines] == ["a", "b"] and loss.get_ylabel() == "loss"
    assert loss.lines[1].get_xydata().tolist() == [[0, 4], [1, 3], [2, 2]]
    assert [line.get_label() for line in lr.lines] == ["a"] and lr.get_xlabel() == "step"
