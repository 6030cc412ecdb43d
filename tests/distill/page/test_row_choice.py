"""Which rows the page shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config import ShowConfig
from distill.errors import UsageError
from distill.page.classes import classes_of
from distill.page.row_choice import check_picked, choose_rows, draw_rows
from distill.page.scan import scan
from tests.distill.page.conftest import MakeStore, small_spec


@given(done=st.lists(st.booleans(), min_size=4, max_size=4), count=st.integers(0, 120), seed=st.integers(0, 9))
def test_drawn_rows_lie_in_blocks_that_are_present(done: list[bool], count: int, seed: int) -> None:
    rows = draw_rows(small_spec(), np.array([done]), count=count, seed=seed)
    present = [row for row in range(100) if done[row // 32]]
    assert len(rows) == len(set(rows)) == min(count, len(present))
    assert set(rows) <= set(present) and list(rows) == sorted(rows)


def test_rows_come_with_the_reasons_they_are_shown_for(make_store: MakeStore) -> None:
    store = make_store()
    scanned = scan(store, classes_of(store.spec), blocks=None, epochs=8, ranking_size=3, progress=lambda count: None)
    config = ShowConfig(rows=50, extremes=3, pick=[7, 3])
    chosen = choose_rows(config, store.spec, store.done(), scanned)
    assert list(chosen)[:2] == [7, 3] and "picked" in chosen[7]
    assert {row for row, kinds in chosen.items() if "disagreement" in kinds} == set(scanned.disagreement.rows)
    assert len(chosen) == 50 and all("random" in kinds for kinds in chosen.values())
    with pytest.raises(UsageError, match=r"rows 0 to 49, not 50"):
        check_picked(ShowConfig(pick=[3, 50]), store.spec)
