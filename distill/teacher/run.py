"""The teacher pass over the blocks of a store that are missing.

    block -> batches of views -> teacher -> targets on the device ->|queue|-> encoded and written by a thread

A block's batches always begin at its first row and its result is written as a whole, so which process does a block,
and how often the pass was stopped before, leaves no trace in the store. Nor does the number of epochs whose views are
made from one decoding: the teacher is given the same batches.
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
"""Epochs, and the block that is missing in them: made from one decoding of its pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One finished block, its values still on the teacher's device."""

    epoch: int
    block: int
    seeds: np.ndarray
    parts: list[SparseTargets]
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
    """Runs the teacher over the blocks of some tasks and writes each block when it is whole; ends early, between two
    blocks, when `stop` gives a reason."""
    selection = selection_of(spec)
    done: dict[int, list[tuple[Batch, SparseTargets]]] = {}
    group = dataset.spec.mix.group_size if dataset.spec.mix else 1
    # Made twice, not targets: a full-size pass has millions of parts.
    parts, indices = (list_slices(spec, tasks, batch_size, group=group) for _ in range(2))
    loader = load(dataset, indices, workers=workers, prefetch=prefetch, pin=runtime.pin)
    with BackgroundWriter(writer) as pending:
        for part, batches in zip(parts, loader, strict=True):
            for epoch, batch in zip(part.epochs, batches, strict=True):
                damage_log.record(batch)
                targets = classify(teacher, batch, selection, normalise=normalise, runtime=runtime)
                done.setdefault(epoch, []).append((batch.without_pixels(), targets))
                progress.advance(len(batch))
                if part.last:
                    pending.put(finished_block(epoch, part.block, done.pop(epoch), spec.proof_rows))
            if part.last and stop():
                break


def list_tasks(missing: Sequence[tuple[int, int]], *, epochs_per_read: int) -> list[BlockTask]:
    """Groups missing (epoch, block) pairs: of each run of so many epochs, those of one block together, in order."""
    tasks: dict[tuple[int, int], list[int]] = {}
    for epoch, block in sorted(missing):
        tasks.setdefault((epoch // epochs_per_read, block), []).append(epoch)
    return [(tuple(epochs), block) for (_, block), epochs in sorted(tasks.items())]


def list_slices(
    spec: logitstore.StoreSpec, tasks: Sequence[BlockTask], batch_size: int, *, group: int = 1
) -> Iterator[BlockSlice]:
    """The batches of some blocks, in order; of whole groups where `batch_size` holds one, so that both of a mixed pair
    are in one batch."""
    step = batch_size - batch_size % group or batch_size
    for epochs, block in tasks:
        rows = spec.block_rows(block)
        for begin in range(rows.start, rows.stop, step):
            end = min(begin + step, rows.stop)
            yield BlockSlice(epochs, block, begin, end, last=end == rows.stop)


def selection_of(spec: logitstore.StoreSpec) -> Selection:
    """What of a view goes to a store."""
    return Selection(kind=spec.selection, topk=spec.topk, max_mass=spec.max_mass, draws=spec.draws)


@torch.inference_mode()
def classify(
    teacher: ImageModel, batch: Batch, selection: Selection, *, normalise: Normalise, runtime: Runtime
) -> SparseTargets:
    """The teacher's targets for a batch of images, on the device; none for a damaged image."""
    logits_bc = forward(teacher.net, batch.pixels_bhwc, normalise=normalise, accelerator=runtime.accelerator)
    targets = select_targets(logits_bc, selection, seeds_b=as_uint64(batch.seeds_b))
    return leave_out_damaged(targets, batch)


def leave_out_damaged(targets: SparseTargets, batch: Batch) -> SparseTargets:
    """The same, but no class, and all mass in the tail, for images that could not be read."""
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
    """Writes blocks from a thread, in the order they were put; an error there is raised at the next `put`.

    The thread starts with the first block, when the loader's processes are made: a fork copies no running thread.
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
        """Waits until everything is written; after an error, only for the block being written: the others are done
        again by the next run."""
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
                continue  # Keep taking, so that nobody waits for room in the queue.
            try:
                block.write(self._writer)
            except BaseException as error:
                self._error = error
