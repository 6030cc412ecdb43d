"""Several processes that train different candidates: torchrun's, each working as if it were alone.

The candidates of a round lie in a queue, and whoever is free takes the next one. Processes agree through the key-value
store of their launcher and share no process group: a candidate's training sees one process, so its numbers do not
depend on how many there are.
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

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_PAUSE_SECONDS = 0.1


class Team:
    """This process among the others of its launch."""

    def __init__(self) -> None:
        self.rank, self.world = 0, int(os.environ.get("WORLD_SIZE", "1"))
        self._taken: dict[str, int] = {}
        if self.world > 1:
            self._store, self.rank, self.world = next(rendezvous("env://", timeout=GROUP_TIMEOUT))

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def from_main(self, key: str, work: Callable[[], str], *, stop: Callable[[], str | None]) -> str:
        """What `work` returns at the main process, which alone does it, at every process. Keys are used once."""
        if self.world == 1:
            return work()
        if self.is_main:
            self._store.set(key, work())
        else:
            self._wait(key, stop)
        text: bytes = self._store.get(key)
        return text.decode()

    def shares(self, key: str, count: int) -> Iterator[int]:
        """Numbers below `count`, each at one process only, the next one when it is asked for."""
        number = self._next(key)
        while number < count:
            yield number
            number = self._next(key)

    def meet(self, key: str, *, stop: Callable[[], str | None]) -> None:
        """Waits until all processes have come here."""
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
                raise Stopped(f"{reason}, while others were at work")
            time.sleep(_PAUSE_SECONDS)


def start_alone(compute: ComputeConfig, team: Team) -> Runtime:
    """A runtime of one process, on a GPU of its own where there are some."""
    with _alone(), redirect_stdout(sys.stdout if team.is_main else None):  # All would say the same.
        runtime = processes.start(compute)
    if team.world > 1 and team.is_main:
        print(f"{team.world} processes train different candidates", flush=True)
    return runtime


@contextmanager
def _alone() -> Iterator[None]:
    """Hides from accelerate that there are others."""
    hidden = {name: os.environ.pop(name) for name in _LAUNCHED if name in os.environ}
    if torch.cuda.is_available() and "LOCAL_RANK" in hidden:
        device = int(hidden["LOCAL_RANK"]) % torch.cuda.device_count()
        torch.cuda.set_device(device)
        os.environ["ACCELERATE_TORCH_DEVICE"] = f"cuda:{device}"
    try:
        yield
    finally:
        os.environ.update(hidden)
