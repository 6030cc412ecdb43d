"""Which blocks of a store are written, as a map that stays small for any size of store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_COLUMNS, MAX_LINES = 96, 60

STATES = {
    "read": "written, read for this page, sound",
    "done": "written",
    "partly": "partly written",
    "missing": "missing",
    "damaged": "damaged",
}
"""State of a cell -> what it means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One rectangle of the map: neighbouring blocks of one line in the same state."""

    column: int
    line: int
    width: int
    state: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The map: lines of epochs, columns of blocks."""

    columns: int
    lines: int
    cells: tuple[Cell, ...]
    states: tuple[str, ...]
    """Those that occur, in the order of `STATES`."""
    num_epochs: int
    num_blocks: int
    num_done: int
    num_read: int
    num_damaged: int
    reduced: bool
    """Whether a cell stands for several blocks."""

    @property
    def description(self) -> str:
        """The map in a sentence."""
        total = self.num_epochs * self.num_blocks
        text = f"{self.num_done:,} of {total:,} blocks are written"
        if self.num_done < total:
            text += f", {total - self.num_done:,} are missing"
        if not self.num_read:
            return text
        read = "all of them" if self.num_read == self.num_done else f"{self.num_read:,}"
        return text + f"; {read} read for this page, {self.num_damaged or 'none'} damaged"


def coverage(done: npt.NDArray[np.bool_], *, read: npt.NDArray[np.bool_], damaged: npt.NDArray[np.bool_]) -> Coverage:
    """The map of blocks, each argument (E, B): committed, read in full, found damaged."""
    num_epochs, num_blocks = done.shape
    edges_e, edges_b = _edges(num_epochs, MAX_LINES), _edges(num_blocks, MAX_COLUMNS)
    sums = {
        name: np.add.reduceat(np.add.reduceat(values.astype(np.int64), edges_e[:-1], axis=0), edges_b[:-1], axis=1)
        for name, values in (("done", done), ("read", read), ("damaged", damaged))
    }
    sizes = np.outer(np.diff(edges_e), np.diff(edges_b))
    states = np.select(
        [sums["damaged"] > 0, sums["done"] == 0, sums["done"] < sizes, sums["read"] == sizes],
        ["damaged", "missing", "partly", "read"],
        default="done",
    )
    cells = [cell for line, line_states in enumerate(states) for cell in _cells(line, line_states, edges_e, edges_b)]
    return Coverage(
        columns=len(edges_b) - 1,
        lines=len(edges_e) - 1,
        cells=tuple(cells),
        states=tuple(state for state in STATES if (states == state).any()),
        num_epochs=num_epochs,
        num_blocks=num_blocks,
        num_done=int(done.sum()),
        num_read=int(read.sum()),
        num_damaged=int(damaged.sum()),
        reduced=bool((sizes > 1).any()),
    )


def _edges(count: int, max_steps: int) -> npt.NDArray[np.int64]:
    """0 .. count in at most `max_steps` steps of nearly the same length."""
    return np.unique(np.linspace(0, count, min(count, max_steps) + 1).round().astype(np.int64))


def _cells(
    line: int, states: npt.NDArray[np.str_], edges_e: npt.NDArray[np.int64], edges_b: npt.NDArray[np.int64]
) -> list[Cell]:
    """Of one line; neighbours in the same state are one rectangle."""
    starts = np.flatnonzero(np.append(True, states[1:] != states[:-1]))
    ends = np.append(starts[1:], len(states))
    epochs = _range_text("epoch", int(edges_e[line]), int(edges_e[line + 1]))
    return [
        Cell(
            column=start, line=line, width=end - start, state=str(states[start]),
            description=f"{epochs}, {_range_text('block', int(edges_b[start]), int(edges_b[end]))}: "
            f"{STATES[str(states[start])]}",
        )
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]  # fmt: skip


def _range_text(unit: str, first: int, end: int) -> str:
    return f"{unit} {first}" if end == first + 1 else f"{unit}s {first} to {end - 1}"
