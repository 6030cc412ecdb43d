"""The teacher pass over the missing blocks of a store.

    block -> batches of views -> teacher -> targets on the device ->|queue|-> encoded and written by a thread

A block's batches always begin at its first row, and a block is written as a whole. So the store does not depend on
which process computes a block, on how often the pass was stopped, or on how many epochs' views are made from one
decoding: the teacher sees the same batches.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch

import logitstore
from distill.data.batch import Batch
from distill.data.batches import BlockBatches, BlockSlice
from distill.data.damage_log import DamageLog
from distill.data.loader import load
from distill.data.seeds import as_uint64
from distill.models import ImageModel
from distill.runtime.model_input import Normalise, forward
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.targets.selection import Selection, no_targets, select_targets
from distill.targets.sparse import SparseTargets
from distill.views import block_proof

_QUEUED_BLOCKS = 2

BlockTask = tuple[tuple[int, ...], int]
"""Epochs, and the block that is missing in each of them: computed from one decoding of its images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One finished block, its values still on the teacher's device."""

    epoch: int
    block: int
    seeds: np.ndarray
    parts: list[SparseTargets]
    """Of the block's batches, in order."""
    proof: int

    def write(self, writer: logitstore.Writer) -> None:
        """Commits it to the store."""
        indices, logprobs, tail = (torch.cat(tensors).cpu().numpy() for tensors in zip(*self.parts, strict=True))
        writer.write(
            self.epoch, self.block, seeds=self.seeds, indices=indices, logprobs=logprobs, tail=tail, proof=self.proof
        )


def run_teacher(
    teacher: ImageModel,
    writer: logitstore.Writer,
    *,
    spec: logitstore.StoreSpec,
    dataset: BlockBatches,
    tasks: Sequence[BlockTask],
    batch_size: int,
    workers: int,
    prefetch: int,
    damage_log: DamageLog,
    normalise: Normalise,
    runtime: Runtime,
    progress: Progress,
    stop: Callable[[], str | None],
) -> None:
    """Runs the teacher over the blocks of some tasks and writes each block when it is complete; ends early, between two
    blocks, when `stop` returns a reason."""
    selection = selection_of(spec)
    done: dict[int, list[tuple[Batch, SparseTargets]]] = {}
    group = dataset.spec.mix.group_size if dataset.spec.mix else 1
    # Generated twice instead of stored: a pass of full size has millions of slices.
    slices, indices = (list_slices(spec, tasks, batch_size, group=group) for _ in range(2))
    loader = load(dataset, indices, workers=workers, prefetch=prefetch, pin=runtime.pin)
    with BackgroundWriter(writer) as pending:
        for rows, batches in zip(slices, loader, strict=True):
            for epoch, batch in zip(rows.epochs, batches, strict=True):
                damage_log.record(batch)
                targets = classify(teacher, batch, selection, normalise=normalise, runtime=runtime)
                done.setdefault(epoch, []).append((batch.without_pixels(), targets))
                progress.advance(len(batch))
                if rows.last:
                    pending.put(finished_block(epoch, rows.block, done.pop(epoch), spec.proof_rows))
            if rows.last and stop():
                break


def list_tasks(missing: Sequence[tuple[int, int]], *, epochs_per_read: int) -> list[BlockTask]:
    """Groups missing (epoch, block) pairs: those of one block in each run of `epochs_per_read` epochs, in order."""
    tasks: dict[tuple[int, int], list[int]] = {}
    for epoch, block in sorted(missing):
        tasks.setdefault((epoch // epochs_per_read, block), []).append(epoch)
    return [(tuple(epochs), block) for (_, block), epochs in sorted(tasks.items())]


def list_slices(
    spec: logitstore.StoreSpec, tasks: Sequence[BlockTask], batch_size: int, *, group: int = 1
) -> Iterator[BlockSlice]:
    """The batches of some blocks, in order; of whole groups of rows where `batch_size` allows it, so that both
    views of a mixed pair are in one batch."""
    step = batch_size - batch_size % group or batch_size
    for epochs, block in tasks:
        rows = spec.block_rows(block)
        for begin in range(rows.start, rows.stop, step):
            end = min(begin + step, rows.stop)
            yield BlockSlice(epochs, block, begin, end, last=end == rows.stop)


def selection_of(spec: logitstore.StoreSpec) -> Selection:
    """Which classes of a view a store has."""
    return Selection(kind=spec.selection, topk=spec.topk, draws=spec.draws)


@torch.inference_mode()
def classify(
    teacher: ImageModel, batch: Batch, selection: Selection, *, normalise: Normalise, runtime: Runtime
) -> SparseTargets:
    """The teacher's targets for a batch of images, on the device; `no_targets` for a damaged image."""
    logits_bc = forward(teacher.net, batch.pixels_bhwc, normalise=normalise, accelerator=runtime.accelerator)
    targets = select_targets(logits_bc, selection, seeds_b=as_uint64(batch.seeds_b))
    return leave_out_damaged(targets, batch)


def leave_out_damaged(targets: SparseTargets, batch: Batch) -> SparseTargets:
    """The targets, with no class and all mass in the tail for images that could not be read."""
    if batch.weights_b.all():
        return targets
    num_rows, topk = targets.indices.shape
    none, good_b = no_targets(num_rows, topk=topk).to(targets.tail.device), batch.weights_b.to(targets.tail.device) > 0
    return SparseTargets(
        torch.where(good_b[:, None], targets.indices, none.indices),
        torch.where(good_b[:, None], targets.logprobs, none.logprobs),
        torch.where(good_b, targets.tail, none.tail),
    )


def finished_block(epoch: int, block: int, done: list[tuple[Batch, SparseTargets]], proof_rows: int) -> Block:
    """A whole block from its batches and their targets, in the order of its rows."""
    batches = [batch for batch, _ in done]
    seeds = torch.cat([batch.seeds_b for batch in batches])
    digests = [digest for batch in batches for digest in batch.digests]
    return Block(
        epoch=epoch,
        block=block,
        seeds=as_uint64(seeds),
        parts=[targets for _, targets in done],
        proof=block_proof(digests[:proof_rows]),
    )


class BackgroundWriter:
    """Writes blocks in a thread, in the order in which they were put; an error there is raised at the next `put`.

    The thread starts with the first block, when the loader's processes exist: a fork does not copy a running thread.
    """

    def __init__(self, writer: logitstore.Writer) -> None:
        self._writer = writer
        self._queue: queue.Queue[Block | None] = queue.Queue(_QUEUED_BLOCKS)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="store writer", daemon=True)

    def put(self, block: Block) -> None:
        if not self._thread.is_alive():
            self._thread.start()
        self._check()
        self._queue.put(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits until everything is written. After an error it waits only for the block that is being written; the next
        run computes the others again."""
        if not self._thread.is_alive():
            return
        if error:
            self._error = self._error or error
        self._queue.put(None)
        self._thread.join()
        if not error:
            self._check()

    def _check(self) -> None:
        if self._error:
            raise self._error

    def _work(self) -> None:
        while (block := self._queue.get()) is not None:
            if self._error:
                continue  # Empties the queue, so that `put` does not block.
            try:
                block.write(self._writer)
            except BaseException as error:
                self._error = error
