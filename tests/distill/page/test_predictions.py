"""Bars of predictions against the dense distribution."""

from __future__ import annotations

import numpy as np
import pytest

import logitstore
from distill.page.classes import classes_of
from distill.page.predictions import prediction
from tests.distill.page.conftest import MakeStore, small_spec


def test_bars_and_tail_make_up_the_whole(make_store: MakeStore) -> None:
    store = make_store()
    classes = classes_of(store.spec)
    for row in range(10):
        view = store.read(epoch=0, rows=row)
        label = int(view.indices[0][3])
        predicted = prediction(view, store.spec, classes, label=label, max_bars=2)
        assert predicted is not None
        assert sum(bar.probability for bar in predicted.bars) == pytest.approx(1, abs=1e-5)
        assert [bar.kind for bar in predicted.bars] == ["topk", "topk", "topk", "others", "tail"]
        assert [bar.is_label for bar in predicted.bars] == [False, False, True, False, False]
        assert predicted.topk_mass + predicted.tail_mass == pytest.approx(1, abs=1e-5)
        assert predicted.label_probability == pytest.approx(float(view.dense()[0, label]), rel=1e-4)
        missing = next(n for n in range(8) if n not in view.indices[0])
        outside = prediction(view, store.spec, classes, label=missing, max_bars=2)
        assert outside is not None and f"name {missing}, is not among the top-k" in outside.note


def test_drawn_classes_are_shown_as_such() -> None:
    sampled = small_spec(selection="sample", encoding="counts", draws=5, topk=3)
    view = logitstore.Rows(
        seeds=np.zeros(1, np.uint64), indices=np.array([[4, 1, 0]]),
        logprobs=np.log(np.array([[0.8, 0.2, 1e-30]], np.float32)), tail=np.full(1, -np.inf, np.float32),
        num_classes=8, drawn=np.array([[True, True, False]]),
    )  # fmt: skip
    view.logprobs[0, 2] = -np.inf
    predicted = prediction(view, sampled, classes_of(sampled), label=-1, max_bars=5)
    assert predicted is not None
    assert [(bar.kind, bar.note) for bar in predicted.bars[:2]] == [("drawn", "drawn 4 x"), ("drawn", "drawn 1 x")]
    assert predicted.bars[2].kind == "tail" and predicted.bars[2].probability == 0
