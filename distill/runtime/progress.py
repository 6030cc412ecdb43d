"""Progress of long work on the main process's screen: a bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from distill.config.durations import as_clock

_LINE_SECONDS = 15.0


class Progress:
    """Counts to `total`, starting at `done`; shows rate and time left. Shows nothing unless `shown`."""

    def __init__(self, what: str, *, total: int, unit: str, done: int = 0, shown: bool = True) -> None:
        self.what, self.total, self.unit, self.first, self.done, self.shown = what, total, unit, done, done, shown
        self._began = self._last_line = time.monotonic()
        self._text = ""
        self._bar: Bar | None = None
        if shown and sys.stderr.isatty():
            self._bar = Bar(
                TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=Console(stderr=True),
            )  # fmt: skip
            self._task = self._bar.add_task(what, total=total, completed=done, rate="", text="")
            self._bar.start()

    @property
    def rate(self) -> float:
        """Units a second since the start."""
        return (self.done - self.first) / max(1e-9, time.monotonic() - self._began)

    def advance(self, count: int, *, text: str | None = None) -> None:
        """Counts `count` more, and sets the text shown beside."""
        self.done += count
        self._text = self._text if text is None else text
        if self._bar:
            rate = f"{self.rate:,.1f} {self.unit}/s"
            self._bar.update(self._task, completed=self.done, rate=rate, text=self._text)
        elif self.shown and time.monotonic() - self._last_line > _LINE_SECONDS:
            self._print()

    def _print(self) -> None:
        self._last_line = time.monotonic()
        left = "?"
        if self.done > self.first:
            left = as_clock((self.total - self.done) / self.rate)
        print(
            f"{self.what}: {self.done:,}/{self.total:,} {self.unit}, {self.rate:,.1f}/s, "
            f"{left} left  {self._text}".rstrip(),
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif self.shown and error is None and self.done > self.first:
            self._print()
