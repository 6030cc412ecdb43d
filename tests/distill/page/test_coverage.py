"""The map of blocks."""

from __future__ import annotations

import numpy as np

from distill.page.coverage import MAX_COLUMNS, MAX_LINES, coverage


def test_every_block_is_in_one_cell_of_its_state() -> None:
    done = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
    read = np.array([[1, 0, 0, 1], [0, 0, 0, 0]], bool)
    damaged = np.array([[0, 0, 0, 1], [0, 0, 0, 0]], bool)
    made = coverage(done, read=read, damaged=damaged)
    lines = [["?"] * 4, ["?"] * 4]
    for cell in made.cells:
        for column in range(cell.column, cell.column + cell.width):
            assert lines[cell.line][column] == "?"
            lines[cell.line][column] = cell.state
    assert lines == [["read", "done", "missing", "damaged"], ["missing", "done", "done", "missing"]]
    assert made.description == "5 of 8 blocks are written, 3 are missing; 2 read for this page, 1 damaged"
    assert made.states == ("read", "done", "missing", "damaged")
    assert [cell.description for cell in made.cells][-2] == "epoch 1, blocks 1 to 2: written"


def test_the_map_of_a_large_store_is_small_and_hides_no_damage() -> None:
    done = np.ones((90, 3467), bool)
    damaged = np.zeros_like(done)
    damaged[77, 1234] = done[5, 3466] = True
    done[5, 100] = False
    made = coverage(done, read=damaged, damaged=damaged)
    assert made.columns <= MAX_COLUMNS and made.lines <= MAX_LINES and made.reduced
    assert [cell.state for cell in made.cells].count("damaged") == 1
    assert [cell.state for cell in made.cells].count("partly") == 1
    assert sum(cell.width for cell in made.cells) == made.columns * made.lines
