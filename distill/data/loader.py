"""Runs a dataset of batches in worker processes.

An error that a user can mend arrives as it was raised in the worker, without the loader's wrapping.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

import logitstore
from distill.errors import DistillError

Item = TypeVar("Item")


def load(
    dataset: Dataset[Item], indices: Iterable[Any], *, workers: int, prefetch: int = 2, pin: bool = False
) -> Iterator[Item]:
    """The items of a dataset at the given indices, in their order, made by `workers` processes.

    **Arguments:** `prefetch`: items each worker is ahead; `pin`: into page-locked memory.
    """
    loader = DataLoader(
        _Guarded(dataset),
        batch_size=None,
        sampler=_Indices(indices),
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin,
        worker_init_fn=_keep_working,
        # Its own: the loader draws from it when it starts, which in the global one would move the random numbers of
        # the first step of a resumed run.
        generator=torch.Generator(),
    )
    for item in loader:
        if isinstance(item, Exception):
            raise item
        yield item


def _keep_working(worker: int) -> None:
    """Makes a worker deaf to the signals by which a scheduler asks a pass to stop: it sends them to every process of a
    job, and the worker is needed until the pass has come to a good place. It ends when its parent tells it or ends."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """Ends workers that are left when this process ends, after an error say: it would send them SIGTERM, to which they
    are deaf, and wait for ever. Runs before that, because it was registered after it."""
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
    def __init__(self, indices: Iterable[Any]) -> None:
        self.indices = indices

    def __iter__(self) -> Iterator[Any]:
        return iter(self.indices)
