"""The queue of candidates that several processes train: torchrun's, each working as if it were the only one.

Each free process takes the next candidate of a round. Processes coordinate through the key-value store of their
launcher and share no process group: the training of a candidate sees one process, so its results do not depend on how
many there are.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

import torch
from torch.distributed.rendezvous import rendezvous

from distill.config import ComputeConfig
from distill.errors import Stopped
from distill.runtime import processes
from distill.runtime.processes import GROUP_TIMEOUT, Runtime

_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_POLL_SECONDS = 0.1


class TaskQueue:
    """Hands out numbered tasks to the processes of one launch, and lets them wait for each other."""

    def __init__(self) -> None:
        self.rank, self.world = 0, int(os.environ.get("WORLD_SIZE", "1"))
        self._taken: dict[str, int] = {}
        if self.world > 1:
            self._store, self.rank, self.world = next(rendezvous("env://", timeout=GROUP_TIMEOUT))

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def from_main(self, key: str, work: Callable[[], str], *, stop: Callable[[], str | None]) -> str:
        """Runs `work` at the main process only. **Returns** its result at every process. A key is used once."""
        if self.world == 1:
            return work()
        if self.is_main:
            self._store.set(key, work())
        else:
            self._wait(key, stop)
        text: bytes = self._store.get(key)
        return text.decode()

    def take(self, key: str, count: int) -> Iterator[int]:
        """Yields the numbers below `count`: each number to one process only, the one that is free first."""
        number = self._next(key)
        while number < count:
            yield number
            number = self._next(key)

    def wait_for_all(self, key: str, *, stop: Callable[[], str | None]) -> None:
        """Waits until all processes have called this."""
        if self.world > 1:
            if self._store.add(f"{key}/arrived", 1) == self.world:
                self._store.set(f"{key}/all", "1")
            self._wait(f"{key}/all", stop)

    def _next(self, key: str) -> int:
        if self.world > 1:
            return int(self._store.add(f"{key}/next", 1)) - 1
        self._taken[key] = self._taken.get(key, -1) + 1
        return self._taken[key]

    def _wait(self, key: str, stop: Callable[[], str | None]) -> None:
        while not self._store.check([key]):
            if reason := stop():
                raise Stopped(f"{reason}, while waiting for other processes")
            time.sleep(_POLL_SECONDS)


def start_single_process(compute: ComputeConfig, queue: TaskQueue) -> Runtime:
    """A runtime of one process, on a GPU of its own where there are GPUs."""
    with _hidden_launcher(), redirect_stdout(sys.stdout if queue.is_main else None):  # One process prints for all.
        runtime = processes.start(compute)
    if queue.world > 1 and queue.is_main:
        print(f"{queue.world} processes train different candidates", flush=True)
    return runtime


@contextmanager
def _hidden_launcher() -> Iterator[None]:
    """Hides the launcher's variables, so that accelerate starts a single process."""
    hidden = {name: os.environ.pop(name) for name in _LAUNCHER_VARIABLES if name in os.environ}
    if torch.cuda.is_available() and "LOCAL_RANK" in hidden:
        device = int(hidden["LOCAL_RANK"]) % torch.cuda.device_count()
        torch.cuda.set_device(device)
        os.environ["ACCELERATE_TORCH_DEVICE"] = f"cuda:{device}"
    try:
        yield
    finally:
        os.environ.update(hidden)
