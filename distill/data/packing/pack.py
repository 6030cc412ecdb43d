"""Packs images into webdataset tar shards with a catalog.

    folder/class/image.jpg, or archives  ->  shuffled once  ->  shard-000000.tar ...  +  catalog/

`listing` lists the images, and the seed gives one order of all of them. Then each process packs whole shards
(`shard_writing`): it reads an image, decodes it to verify it, and writes its bytes into the tar unchanged (or shrunk
and re-encoded: `recode`), with a `.cls` member (the label) and a `.json` member (key, label and class name), so that a
shard is complete for any webdataset reader. Images that cannot be decoded are listed in `unreadable.tsv`. The catalog
is written last. A packing that was stopped is resumed by the same call.
"""

from __future__ import annotations

import errno
import multiprocessing
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill.data.catalog import Keys, write_catalog
from distill.data.catalog_files import FOLDER, Shard
from distill.data.order import permutation
from distill.data.packing.hold_out import HoldOut, held_out
from distill.data.packing.listing import Listing, list_source
from distill.data.packing.recode import Recode
from distill.data.packing.shard_writing import RECORDS, PackedShard, ShardTask, pack_shard
from distill.data.packing.unfinished import begin_or_resume, can_pack_into
from distill.errors import DamagedImage, DistillError, UsageError
from distill.files import write_file
from logitstore.untrusted import printable

_PACKING = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """The result of a packing."""

    num_rows: int
    num_classes: int
    num_shards: int
    size_bytes: int
    fingerprint: str
    unreadable: tuple[tuple[str, str], ...]
    """Key and reason of each file that was left out."""
    num_transparent: int
    """Images whose transparency is dropped when they are read."""
    held_out: Packed | None = None
    """The data set of the rows held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """The images of one data set: all, or those for training or held out."""

    target: Path
    rows: npt.NDArray[np.int64]
    """Of the listing, in the order of packing."""
    options: dict[str, Any]
    """For the catalog."""


def pack(
    source: Path,
    target: Path,
    *,
    rows_per_shard: int = 1000,
    seed: int = 0,
    workers: int = 1,
    labelled: bool = True,
    classes: Path | None = None,
    damaged: str = "skip",
    recode: Recode | None = None,
    hold_out: HoldOut | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Packs every JPEG and PNG of `source` into `target`, a new or empty folder, or one of the same unfinished packing.

    **Arguments**

    - `source`: a folder of class folders, an archive, or a folder of archives (`listing`).
    - `seed`: of the order of all images.
    - `labelled`: the first folder of an image's key is its class, and classes are numbered in sorted order; else all
      labels are -1. `classes`: a file with the class of each image of a flat archive.
    - `damaged`: `skip` leaves out images that cannot be decoded, and the part of an archive behind a fault; `stop`
      ends without a catalog after all shards are written, and the same packing with `skip` then only adds the catalog.
    - `recode`: how to shrink and re-encode images; None: not at all.
    - `hold_out`: a fraction of each class that is packed into another folder, with the same class numbers.
    - `progress`: called with (files done, files in total) after every shard.

    **Raises:** `DistillError` for a missing or empty source, a target with other content, a full disk; `DamagedImage`
    under `stop`.
    """
    if rows_per_shard < 1:
        raise UsageError(f"rows per shard must be at least 1, not {rows_per_shard}")
    for folder in (target, hold_out.target) if hold_out else (target,):
        if not can_pack_into(folder):
            raise DistillError(f"{folder} is not empty: nothing is overwritten; name a new folder or remove that one")
    listing = list_source(source, labelled=labelled, classes=classes, workers=workers)
    if listing.faults and damaged == "stop":
        raise DamagedImage(
            f"{_first_of(listing.faults)}. Fetch the archives again, or pass --damaged skip to pack the rest"
        )
    recode = recode or Recode()
    options: dict[str, Any] = {"seed": seed, "rows_per_shard": rows_per_shard} | recode.options()
    splits = _make_splits(listing, target, hold_out, options)
    try:
        packed = _pack_splits(listing, splits, recode=recode, workers=workers, damaged=damaged, progress=progress)
        return replace(packed[0], held_out=packed[1] if hold_out else None)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DistillError(
                f"the disk is full while packing into {target}: free some space, and the same command resumes it"
            ) from None
        raise


def _make_splits(listing: Listing, target: Path, hold_out: HoldOut | None, options: dict[str, Any]) -> list[_Split]:
    """All images in the target, or a fraction of each class in the other folder."""
    order = permutation(len(listing.keys), key=(options["seed"], _PACKING))
    if hold_out is None:
        return [_Split(target=target, rows=order, options=options)]
    if target.resolve() == hold_out.target.resolve():
        raise UsageError(f"{target} cannot contain both data sets: name another folder for the images held out")
    held = held_out(listing.keys, listing.labels, fraction=hold_out.fraction, seed=options["seed"])[order]
    if not held.any():
        raise DistillError("no class has two images, of which one could be held out")
    options = options | {"hold_out": hold_out.fraction}
    return [
        _Split(target=target, rows=order[~held], options=options | {"part": "training"}),
        _Split(target=hold_out.target, rows=order[held], options=options | {"part": "held out"}),
    ]


def _pack_splits(
    listing: Listing, splits: list[_Split], *, recode: Recode, workers: int, damaged: str,
    progress: Callable[[int, int], None] | None,
) -> list[Packed]:  # fmt: skip
    """Writes the shards of all splits, then their catalogs, so that a packing that was killed is resumed in each."""
    for split in splits:
        begin_or_resume(split.target, listing, split.options)
    written, unreadable, num_done = [], [], 0
    for split in splits:
        tasks = _tasks(split, listing, recode)
        shards = list(_packed(tasks, workers, len(listing.keys), progress, num_done=num_done))
        num_done += len(split.rows)
        faults = listing.faults if split is splits[0] else ()
        unreadable.append(faults + tuple(entry for shard in shards for entry in shard.unreadable))
        written.append(shards)
        _list_unreadable(split.target, unreadable[-1])
    for split, entries in zip(splits, unreadable, strict=True):
        if entries and damaged == "stop":
            raise DamagedImage(
                f"{_first_of(entries)}; {split.target / 'unreadable.tsv'} lists them. The same command with --damaged "
                "skip leaves them out, and packs no shard again"
            )
    return [
        _finish(split.target, shards, listing.class_names, split.options, entries)
        for split, shards, entries in zip(splits, written, unreadable, strict=True)
    ]


def _first_of(entries: tuple[tuple[str, str], ...]) -> str:
    key, reason = entries[0]
    return f"{len(entries)} could not be read: the first is {key}: {reason}"


def _list_unreadable(target: Path, entries: tuple[tuple[str, str], ...]) -> None:
    if entries:
        lines = (f"{printable(key)}\t{printable(reason)}\n" for key, reason in entries)
        write_file(target / "unreadable.tsv", "".join(lines))


def _tasks(split: _Split, listing: Listing, recode: Recode) -> Iterator[ShardTask]:
    rows_per_shard = split.options["rows_per_shard"]
    for shard, first in enumerate(range(0, len(split.rows), rows_per_shard)):
        rows = split.rows[first : first + rows_per_shard]
        yield ShardTask(
            tar=split.target / f"shard-{shard:06d}.tar",
            first=first,
            images=listing.images.subset(rows),
            keys=tuple(listing.keys[n] for n in rows),
            labels=tuple(int(listing.labels[n]) for n in rows),
            class_names=listing.class_names,
            recode=recode,
        )


def _packed(
    tasks: Iterator[ShardTask], workers: int, num_files: int, progress: Callable[[int, int], None] | None, *,
    num_done: int,
) -> Iterator[PackedShard]:  # fmt: skip
    """Runs the tasks, in processes where there are several workers, and yields their results in order."""
    for shard in _in_processes(tasks, workers) if workers > 1 else map(pack_shard, tasks):
        num_done += len(shard.keys) + len(shard.unreadable)
        if progress:
            progress(num_done, num_files)
        yield shard


def _in_processes(tasks: Iterator[ShardTask], workers: int) -> Iterator[PackedShard]:
    """Results in the order of the tasks; at most two tasks per worker are pending."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        pending: deque[Future[PackedShard]] = deque()
        for task in tasks:
            pending.append(pool.submit(pack_shard, task))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _finish(
    target: Path, shards: list[PackedShard], class_names: tuple[str, ...], options: dict[str, Any],
    unreadable: tuple[tuple[str, str], ...],
) -> Packed:  # fmt: skip
    """Removes empty shards, writes the catalog, then removes the records."""
    for shard in shards:
        if not len(shard.keys):
            shard.tar.unlink(missing_ok=True)
    shards = [shard for shard in shards if len(shard.keys)]
    if not shards:
        raise DistillError(f"none of the files could be decoded: {target / 'unreadable.tsv'} lists them")
    shutil.rmtree(target / FOLDER, ignore_errors=True)  # From a packing that was killed at its very end.
    entries = [Shard(name=s.tar.name, num_rows=len(s.keys), size_bytes=s.tar.stat().st_size) for s in shards]
    fingerprint = write_catalog(
        target,
        keys=Keys.of(shard.keys[n] for shard in shards for n in range(len(shard.keys))),
        labels=np.concatenate([shard.labels for shard in shards]),
        offsets=np.concatenate([shard.offsets for shard in shards]),
        sizes=np.concatenate([shard.sizes for shard in shards]),
        digests=np.concatenate([shard.digests for shard in shards]),
        class_names=class_names,
        shards=entries,
        options=options,
    )
    shutil.rmtree(target / RECORDS)
    return Packed(
        num_rows=sum(entry.num_rows for entry in entries),
        num_classes=len(class_names),
        num_shards=len(entries),
        size_bytes=sum(entry.size_bytes for entry in entries),
        fingerprint=fingerprint,
        unreadable=unreadable,
        num_transparent=sum(shard.num_transparent for shard in shards),
    )
