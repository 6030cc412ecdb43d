"""Progress of long work, on stderr: a bar in a terminal, otherwise a line every 15 seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from distill.config.durations import as_clock
from logitstore.untrusted import PlainOutput, terminal

_LINE_SECONDS = 15.0


class Progress:
    """Counts from `done` to `total`; shows units per second and the remaining time. Shows nothing unless `shown`."""

    def __init__(self, title: str, *, total: int, unit: str, done: int = 0, shown: bool = True) -> None:
        self.title, self.total, self.unit, self.first, self.done, self.shown = title, total, unit, done, done, shown
        self._began = self._last_line = time.monotonic()
        self._text = ""
        self._bar: Bar | None = None
        if shown and sys.stderr.isatty():
            self._bar = Bar(
                TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(), TextColumn("{task.fields[text]}"), console=Console(file=terminal(sys.stderr)),
            )  # fmt: skip
            self._task = self._bar.add_task(title, total=total, completed=done, speed="", text="")
            self._bar.start()
            sys.stdout = PlainOutput(sys.stdout)  # The bar has put its own in the place.

    @property
    def per_second(self) -> float:
        """Units per second since the start."""
        return (self.done - self.first) / max(1e-9, time.monotonic() - self._began)

    def advance(self, count: int, *, text: str | None = None) -> None:
        """Counts `count` more units, and sets the text shown beside them."""
        self.done += count
        self._text = self._text if text is None else text
        if self._bar:
            speed = f"{self.per_second:,.1f} {self.unit}/s"
            self._bar.update(self._task, completed=self.done, speed=speed, text=self._text)
        elif self.shown and time.monotonic() - self._last_line > _LINE_SECONDS:
            self._print()

    def _print(self) -> None:
        self._last_line = time.monotonic()
        left = as_clock((self.total - self.done) / self.per_second) if self.done > self.first else "?"
        print(
            f"{self.title}: {self.done:,}/{self.total:,} {self.unit}, {self.per_second:,.1f}/s, "
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
