"""Graceful stopping: a signal or a time limit sets a flag, and the pass stops at the end of its step.

Schedulers announce the end of a job with SIGTERM, or with SIGUSR1 where the job asks for it. The processes of a student
pass agree at every step whether to stop, so all stop at the same step. Those of a teacher pass have no common steps:
the first that is to stop tells the others, and each finishes the blocks it has begun. A marker file says that the same
command is to be started again.
"""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from torch import distributed

from distill.runtime.processes import GROUP_TIMEOUT, Runtime

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
MARKER = "requeue"
_TIME_LIMIT = 1
"""Stands for the time limit among the signal numbers (1 is SIGHUP, which is not handled)."""
_KEY = "distill/stop"


class Stopping:
    """While open, SIGTERM and SIGUSR1 ask this process to stop instead of ending it."""

    def __init__(self, runtime: Runtime, *, time_limit: float, began: float) -> None:
        """**Arguments:** `time_limit` in seconds after `began`, a `time.monotonic()`."""
        self._deadline = began + time_limit
        self._signal = 0
        self._before: dict[signal.Signals, Any] = {}
        # A group of its own on the CPU: agreeing neither waits for a GPU nor interferes with the gradients' all-reduce.
        self._group: Any = distributed.new_group(backend="gloo", timeout=GROUP_TIMEOUT) if runtime.world > 1 else None

    def agreed(self) -> str | None:
        """Why to stop now, or None. The same in all processes; all must call it."""
        code = self._code()
        if self._group is not None:
            codes = torch.tensor([code])
            distributed.all_reduce(codes, op=distributed.ReduceOp.MAX, group=self._group)
            code = int(codes.item())
        return _reason(code)

    def requested(self) -> str | None:
        """Why to stop now, or None: this process's reason, or that of the first process that had one. Any process may
        call it at any time."""
        code = self._code()
        if self._group is None:
            return _reason(code)
        store = distributed.distributed_c10d._get_default_store()
        if code:
            store.set(_KEY, str(code))
        elif store.check([_KEY]):
            code = int(store.get(_KEY))
        return _reason(code)

    def _code(self) -> int:
        return self._signal or (_TIME_LIMIT if time.monotonic() > self._deadline else 0)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _reason(code: int) -> str | None:
    if not code:
        return None
    return "its time limit" if code == _TIME_LIMIT else signal.Signals(code).name
