"""Runs a dataset of batches in worker processes.

An error that a user can mend arrives as it was raised in the worker, without the loader's wrapping.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

import logitstore
from distill.errors import DistillError

Item = TypeVar("Item")

START_SECONDS = 60.0
"""Workers that have not begun by then are taken to hang."""
_TRIES = 3
_PAUSE_SECONDS = 0.002


def load(
    dataset: Dataset[Item], indices: Iterable[Any], *, workers: int, prefetch: int = 2, pin: bool = False
) -> Iterator[Item]:
    """The items of a dataset at the given indices, in their order, made by `workers` processes.

    **Arguments:** `prefetch`: items each worker is ahead; `pin`: into page-locked memory.
    """
    begun, sampler = multiprocessing.RawArray("b", workers), _Indices(indices)
    loader = DataLoader(
        _Guarded(dataset),
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        worker_init_fn=partial(_begin, begun),
        # Its own: the loader draws from it when it starts, which in the global one would move the random numbers of
        # the first step of a resumed run.
        generator=torch.Generator(),
    )
    for item in _start(loader, sampler, begun):
        if isinstance(item, Exception):
            raise item
        yield item


def _start(loader: DataLoader[Any], indices: _Indices, begun: Any) -> Iterator[Any]:
    """The loader's items, from workers that have all begun.

    A child forked from a process with native threads can hang before its first line: that of CPython 3.11 does if a
    thread, one of gloo's say, enters Python at the moment of the fork (`PyOS_AfterFork_Child`; 3.12 is free of it). So
    workers that do not begin are replaced by others.

    **Arguments:** `begun`: a byte of shared memory for each worker, which sets it. **Raises:** `DistillError`.
    """
    for _ in range(_TRIES):
        begun[:] = [0] * len(begun)
        others, items = set(multiprocessing.active_children()), iter(loader)
        workers = set(multiprocessing.active_children()) - others
        deadline = time.monotonic() + START_SECONDS
        while not all(begun) and time.monotonic() < deadline and all(worker.is_alive() for worker in workers):
            time.sleep(_PAUSE_SECONDS)
        if all(begun) or not all(worker.is_alive() for worker in workers):  # Of one that ended torch has more to say.
            indices.forget()
            return items
        del items  # Those that have begun end, and torch watches no longer over the others.
        for worker in workers:
            worker.kill()
            worker.join()
    raise DistillError(
        f"loader workers did not begin within {START_SECONDS:g} s, {_TRIES} times: the machine is overloaded, or "
        "processes hang when they start. Try fewer data.workers; 0 takes none"
    )


def _begin(begun: Any, worker: int) -> None:
    """Says that a worker has begun, and makes it deaf to the signals by which a scheduler asks a pass to stop: it sends
    them to every process of a job, and the worker is needed until the pass has come to a good place. It ends when its
    parent tells it or ends."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    begun[worker] = 1


@atexit.register
def _end_workers() -> None:
    """Ends workers that are left when this process ends, after an error say: it would send them SIGTERM, to which they
    are deaf, and wait for ever. Runs before that, because it was registered after it. From now on torch's handler would
    call that a fault, with a traceback after the program's last word."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


class _Guarded(Dataset[Any]):
    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.dataset[index]
        except (DistillError, logitstore.StoreError) as error:
            return error


class _Indices(torch.utils.data.Sampler[Any]):
    """Hands out indices; again from the first one if it is asked anew, until it is told to forget them."""

    def __init__(self, indices: Iterable[Any]) -> None:
        self._rest = iter(indices)
        self._handed: list[Any] | None = []

    def __iter__(self) -> Iterator[Any]:
        yield from tuple(self._handed or ())
        for index in self._rest:
            if self._handed is not None:
                self._handed.append(index)
            yield index

    def forget(self) -> None:
        self._handed = None
