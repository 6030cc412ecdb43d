"""Runs a dataset of batches in worker processes.

An error that a user can fix is raised as in the worker, without the loader's wrapping.
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
"""Workers that have not started by then are considered hung."""
_TRIES = 3
_PAUSE_SECONDS = 0.002


def load(
    dataset: Dataset[Item], indices: Iterable[Any], *, workers: int, prefetch: int = 2, pin: bool = False
) -> Iterator[Item]:
    """The items of a dataset at the given indices, in order, made by `workers` processes (0: in this process).

    **Arguments:** `prefetch`: items that each worker prepares ahead; `pin`: into page-locked memory.

    **Raises:** the `DistillError` or `logitstore.StoreError` of an item; `DistillError` if workers do not start.
    """
    started, sampler = multiprocessing.RawArray("b", workers), _Indices(indices)
    loader = DataLoader(
        _Guarded(dataset),
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        worker_init_fn=partial(_start_worker, started),
        # The loader draws from it when it starts. Drawing from the global generator would change the random numbers of
        # the first step of a resumed run.
        generator=torch.Generator(),
    )
    for item in _started_items(loader, sampler, started):
        if isinstance(item, Exception):
            raise item
        yield item


def _started_items(loader: DataLoader[Any], indices: _Indices, started: Any) -> Iterator[Any]:
    """The loader's items, once all its workers have started.

    A child forked from a process with native threads can hang before its first line: that of CPython 3.11 does if a
    thread, one of gloo's say, enters Python at the moment of the fork (`PyOS_AfterFork_Child`; 3.12 is free of it). So
    workers that do not start are replaced.

    **Arguments:** `started`: a byte of shared memory per worker, which sets it. **Raises:** `DistillError`.
    """
    for _ in range(_TRIES):
        started[:] = [0] * len(started)
        others, items = set(multiprocessing.active_children()), iter(loader)
        workers = set(multiprocessing.active_children()) - others
        deadline = time.monotonic() + START_SECONDS
        while not all(started) and time.monotonic() < deadline and all(worker.is_alive() for worker in workers):
            time.sleep(_PAUSE_SECONDS)
        if all(started) or not all(worker.is_alive() for worker in workers):  # torch reports a worker that ended.
            indices.stop_recording()
            return items
        del items  # Ends the workers that have started; torch no longer watches the others.
        for worker in workers:
            worker.kill()
            worker.join()
    raise DistillError(
        f"loader workers did not start within {START_SECONDS:g} s, {_TRIES} times: the machine is overloaded, or "
        "processes hang when they start. Try fewer data.workers; 0 loads in the main process"
    )


def _start_worker(started: Any, worker: int) -> None:
    """Reports that a worker has started, and makes it ignore the signals by which a scheduler asks a job to stop: they
    are sent to every process of the job, and the pass needs its workers until it stops by itself. A worker ends when
    the loader or its parent process ends."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    started[worker] = 1


@atexit.register
def _end_workers() -> None:
    """Kills workers that still run when this process ends, for example after an error. multiprocessing's own exit
    handler would send them SIGTERM, which they ignore, and wait for ever; this one runs first, because it is registered
    later. torch's SIGCHLD handler would report the killed workers as an error."""
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
    """Yields indices and records them. A new iteration begins with the recorded ones, so that a loader can be started
    again."""

    def __init__(self, indices: Iterable[Any]) -> None:
        self._rest = iter(indices)
        self._recorded: list[Any] | None = []

    def __iter__(self) -> Iterator[Any]:
        yield from tuple(self._recorded or ())
        for index in self._rest:
            if self._recorded is not None:
                self._recorded.append(index)
            yield index

    def stop_recording(self) -> None:
        self._recorded = None
