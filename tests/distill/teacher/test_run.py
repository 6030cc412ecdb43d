"""The teacher pass: the order of its work."""

from __future__ import annotations

from distill.teacher.run import list_tasks


def test_missing_blocks_are_grouped_by_runs_of_epochs() -> None:
    missing = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 1), (4, 0)]
    assert list_tasks(missing, epochs_per_read=1) == [((e,), b) for e, b in missing]
    assert list_tasks(missing, epochs_per_read=2) == [
        ((0, 1), 0), ((0,), 1), ((2,), 0), ((2, 3), 1), ((4,), 0),
    ]  # fmt: skip
    assert list_tasks(missing, epochs_per_read=9) == [((0, 1, 2, 4), 0), ((0, 2, 3), 1)]
