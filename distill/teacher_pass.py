"""The teacher pass over the blocks of a store that are missing.

    block -> batches of views -> teacher -> kept classes on the device ->|queue|-> encoded and written by a thread

A block's batches always begin at its first row and its result is written as a whole, so which process does a block,
and how often the pass was stopped before, leaves no trace in the store.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np
import torch

import logitstore
from distill.data.batches import Batch, BlockBatches, BlockPart, load
from distill.data.records import Records
from distill.keep import Kept, keep_nothing, keep_topk
from distill.progress import Progress
from distill.runtime import Runtime, normalise
from distill.views import block_proof
from models import Teacher

_QUEUED_BLOCKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One finished block, its values still on the teacher's device."""

    epoch: int
    block: int
    seeds: np.ndarray
    parts: list[Kept]
    proof: int


def run_teacher(
    teacher: Teacher,
    writer: logitstore.Writer,
    *,
    spec: logitstore.StoreSpec,
    dataset: BlockBatches,
    blocks: Sequence[tuple[int, int]],
    batch_size: int,
    workers: int,
    prefetch: int,
    records: Records,
    runtime: Runtime,
    memory_format: torch.memory_format,
    progress: Progress,
) -> None:
    """Runs the teacher over (epoch, block) pairs and writes each block when it is whole."""
    parts: list[Kept] = []
    batches: list[Batch] = []
    indices = list_parts(spec, blocks, batch_size)
    loader = load(dataset, indices, workers=workers, prefetch=prefetch, pin=runtime.pin)
    with BackgroundWriter(writer) as pending:
        for part, batch in zip(list_parts(spec, blocks, batch_size), loader, strict=True):
            records.note(batch)
            parts.append(classify(teacher, batch, topk=spec.topk, runtime=runtime, memory_format=memory_format))
            batches.append(replace(batch, pixels_bhwc=batch.pixels_bhwc[:0]))  # Pictures are not needed again.
            progress.advance(len(batch))
            if part.last:
                pending.put(_finished(part, batches, parts, spec.proof_rows))
                parts, batches = [], []


def list_parts(spec: logitstore.StoreSpec, blocks: Sequence[tuple[int, int]], batch_size: int) -> Iterator[BlockPart]:
    """The batches of some blocks, in order."""
    for epoch, block in blocks:
        rows = spec.block_rows(block)
        for begin in range(rows.start, rows.stop, batch_size):
            end = min(begin + batch_size, rows.stop)
            yield BlockPart(epoch, block, begin, end, last=end == rows.stop)


@torch.inference_mode()
def classify(
    teacher: Teacher, batch: Batch, *, topk: int, runtime: Runtime, memory_format: torch.memory_format
) -> Kept:
    """The teacher's kept classes for a batch of pictures, on the device; nothing for a damaged picture."""
    pixels_bhwc = batch.pixels_bhwc.to(runtime.device, non_blocking=True)
    inputs_bchw = normalise(pixels_bhwc, mean=teacher.mean, std=teacher.std, memory_format=memory_format)
    with runtime.accelerator.autocast():
        logits_bc = teacher.net(inputs_bchw)
    kept = keep_topk(logits_bc, topk=topk)
    if batch.damage:
        nothing = keep_nothing(len(batch), topk=topk).to(runtime.device)
        good_b = batch.weights_b.to(runtime.device) > 0
        kept = Kept(
            torch.where(good_b[:, None], kept.indices_bk, nothing.indices_bk),
            torch.where(good_b[:, None], kept.logprobs_bk, nothing.logprobs_bk),
            torch.where(good_b, kept.tail_b, nothing.tail_b),
        )
    return kept


def _finished(part: BlockPart, batches: list[Batch], parts: list[Kept], proof_rows: int) -> Block:
    seeds = torch.cat([batch.seeds_b for batch in batches if batch.seeds_b is not None])
    digests = [digest for batch in batches for digest in batch.digests]
    return Block(
        epoch=part.epoch,
        block=part.block,
        seeds=seeds.numpy().view(np.uint64),
        parts=parts,
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
                self._write(block)
            except BaseException as error:
                self._error = error

    def _write(self, block: Block) -> None:
        self._writer.write(
            block.epoch,
            block.block,
            seeds=block.seeds,
            indices=torch.cat([kept.indices_bk for kept in block.parts]).cpu().numpy(),
            logprobs=torch.cat([kept.logprobs_bk for kept in block.parts]).cpu().numpy(),
            tail=torch.cat([kept.tail_b for kept in block.parts]).cpu().numpy(),
            proof=block.proof,
        )
