"""Packs images into webdataset tar shards with a catalog.

    folder/class/image.jpg, or archives  ->  shuffled once  ->  shard-000000.tar ...  +  catalog/

`listing` says what there is, and one order of all images is drawn from the seed. Then each process packs whole shards
(`shard_writing`): it reads an image, decodes it to see that it can be, and puts its bytes into the tar unchanged (or
shrunk and re-encoded, where asked to), beside a `.cls` member (the label) and a `.json` member (key, label and class
name), so that a shard explains itself to any webdataset reader. What cannot be decoded is listed in `unreadable.tsv`.
The catalog comes last. A packing that was stopped goes on where it was when it is asked for again.
"""

from __future__ import annotations

import errno
import json
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
import xxhash

from distill.data.catalog import FOLDER, Keys, Shard, write_catalog
from distill.data.order import permutation
from distill.data.packing.hold_out import HoldOut, held_out
from distill.data.packing.listing import Listing, list_source
from distill.data.packing.recode import Recode
from distill.data.packing.shard_writing import RECORDS, Done, Task, pack_shard
from distill.errors import DamagedImage, DistillError, UsageError

_PACKING = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What a packing did."""

    num_rows: int
    num_classes: int
    num_shards: int
    size_bytes: int
    fingerprint: str
    unreadable: tuple[tuple[str, str], ...]
    """Key and reason of each file left out."""
    num_transparent: int
    """Images packed whose transparency is dropped when they are read."""
    held_out: Packed | None = None
    """The part that was packed elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The images that go into one folder."""

    target: Path
    rows: npt.NDArray[np.int64]
    """Of the listing, in the order in which they are packed."""
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
    smaller: Recode | None = None,
    hold_out: HoldOut | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Packs every JPEG and PNG of `source` into `target`, which must be empty or new, or of the same packing.

    **Arguments:** `source`: a folder of class folders, an archive, or a folder of archives (`listing`). `labelled`: the
    first folder of an image's key is its class, classes are numbered in sorted order; otherwise all labels are -1.
    `classes`: a file that says the class of each image of a flat archive. `damaged`: `skip` leaves out what cannot be
    decoded, or an archive's part behind a fault; `stop` ends without a catalog after all shards, and the same packing
    with `skip` then ends at once. `smaller`: how to shrink and re-encode; not at all by default. `hold_out`: a share of
    each class that is packed elsewhere, with the same numbers of classes. `progress(files done, files in all)` is
    called as shards are finished.

    **Raises:** `DistillError` for a missing or empty source, a target that holds something else, a full disk;
    `DamagedImage` under `stop`.
    """
    if rows_per_shard < 1:
        raise UsageError(f"rows per shard must be at least 1, not {rows_per_shard}")
    for folder in (target, hold_out.target) if hold_out else (target,):
        if folder.exists() and not _may_go_on(folder):
            raise DistillError(f"{folder} is not empty: nothing is overwritten; name a new folder or remove that one")
    listing = list_source(source, labelled=labelled, classes=classes, workers=workers)
    if listing.faults and damaged == "stop":
        raise DamagedImage(
            f"{_listed(listing.faults)}. Fetch the archives again, or pass --damaged skip to pack the rest"
        )
    smaller = smaller or Recode()
    options: dict[str, Any] = {"seed": seed, "rows_per_shard": rows_per_shard} | smaller.options()
    parts = _parts(listing, target, hold_out, options)
    try:
        packed = _pack_parts(listing, parts, smaller=smaller, workers=workers, damaged=damaged, progress=progress)
        return replace(packed[0], held_out=packed[1] if hold_out else None)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DistillError(
                f"the disk is full while packing into {target}: make room, and the same command goes on"
            ) from None
        raise


def _parts(listing: Listing, target: Path, hold_out: HoldOut | None, options: dict[str, Any]) -> list[_Part]:
    """Which images go where: all into the target, or a share of each class elsewhere."""
    order = permutation(len(listing.keys), key=(options["seed"], _PACKING))
    if hold_out is None:
        return [_Part(target=target, rows=order, options=options)]
    if target.resolve() == hold_out.target.resolve():
        raise UsageError(f"{target} is to hold both parts: name another folder for the images held out")
    held = held_out(listing.keys, listing.labels, share=hold_out.share, seed=options["seed"])[order]
    if not held.any():
        raise DistillError("no class has two images, of which one could be held out")
    options = options | {"hold_out": hold_out.share}
    return [
        _Part(target=target, rows=order[~held], options=options | {"part": "training"}),
        _Part(target=hold_out.target, rows=order[held], options=options | {"part": "held out"}),
    ]


def _pack_parts(
    listing: Listing, parts: list[_Part], *, smaller: Recode, workers: int, damaged: str,
    progress: Callable[[int, int], None] | None,
) -> list[Packed]:  # fmt: skip
    """Writes the shards of all parts, then their catalogs: a packing killed before goes on in every part."""
    for part in parts:
        _begin(part.target, listing, part.options)
    written, unreadable, before = [], [], 0
    for part in parts:
        tasks = _tasks(part, listing, smaller)
        done = list(_packed(tasks, workers, len(listing.keys), progress, before=before))
        before += len(part.rows)
        faults = listing.faults if part is parts[0] else ()
        unreadable.append(faults + tuple(entry for shard in done for entry in shard.unreadable))
        written.append(done)
        _list_unreadable(part.target, unreadable[-1])
    for part, entries in zip(parts, unreadable, strict=True):
        if entries and damaged == "stop":
            raise DamagedImage(
                f"{_listed(entries)}; {part.target / 'unreadable.tsv'} lists them. The same command with --damaged "
                "skip leaves them out, and does nothing twice"
            )
    return [
        _finish(part.target, done, listing.class_names, part.options, entries)
        for part, done, entries in zip(parts, written, unreadable, strict=True)
    ]


def _may_go_on(target: Path) -> bool:
    """Whether a folder is empty, or holds a packing that has not ended."""
    return target.is_dir() and (not any(target.iterdir()) or (target / RECORDS / "request.json").exists())


def _begin(target: Path, listing: Listing, options: dict[str, Any]) -> None:
    """Notes what is packed, or holds it against what the target's packing was begun with.

    **Raises:** `DistillError` where the two differ.
    """
    digest = xxhash.xxh3_128(listing.keys.text)
    digest.update(listing.keys.offsets.tobytes())
    digest.update(listing.labels.tobytes())
    wanted = {"images": len(listing.keys), "keys": digest.hexdigest(), **options}
    file = target / RECORDS / "request.json"
    if file.exists():
        begun = json.loads(file.read_text())
        different = [f"{name}: {begun.get(name)}, now {wanted.get(name)}" for name in sorted(begun | wanted)
                     if begun.get(name) != wanted.get(name)]  # fmt: skip
        if different:
            raise DistillError(
                f"{target} holds a packing of something else that has not ended ({'; '.join(different)}): name a new "
                "folder or remove that one"
            )
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name("request.json.part")
    part.write_text(json.dumps(wanted))
    part.rename(file)


def _listed(entries: tuple[tuple[str, str], ...]) -> str:
    key, reason = entries[0]
    return f"{len(entries)} could not be read: the first is {key}: {reason}"


def _list_unreadable(target: Path, entries: tuple[tuple[str, str], ...]) -> None:
    if entries:
        (target / "unreadable.tsv").write_text("".join(f"{key}\t{reason}\n" for key, reason in entries))


def _tasks(part: _Part, listing: Listing, smaller: Recode) -> Iterator[Task]:
    rows_per_shard = part.options["rows_per_shard"]
    for shard, first in enumerate(range(0, len(part.rows), rows_per_shard)):
        rows = part.rows[first : first + rows_per_shard]
        yield Task(
            tar=part.target / f"shard-{shard:06d}.tar",
            first=first,
            images=listing.images.part(rows),
            keys=tuple(listing.keys[n] for n in rows),
            labels=tuple(int(listing.labels[n]) for n in rows),
            class_names=listing.class_names,
            recode=smaller,
        )


def _packed(
    tasks: Iterator[Task], workers: int, num_files: int, progress: Callable[[int, int], None] | None, *, before: int
) -> Iterator[Done]:
    """Runs the tasks, in processes when there are several workers, and yields their results in order."""
    finished = before
    for done in _in_processes(tasks, workers) if workers > 1 else map(pack_shard, tasks):
        finished += len(done.keys) + len(done.unreadable)
        if progress:
            progress(finished, num_files)
        yield done


def _in_processes(tasks: Iterator[Task], workers: int) -> Iterator[Done]:
    """Results in the order of the tasks, with no more than two tasks a worker waiting."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[Done]] = deque()
        for task in tasks:
            waiting.append(pool.submit(pack_shard, task))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _finish(
    target: Path, done: list[Done], class_names: tuple[str, ...], options: dict[str, Any],
    unreadable: tuple[tuple[str, str], ...],
) -> Packed:  # fmt: skip
    """Drops empty shards, writes the catalog, then removes the records."""
    for shard in done:
        if not len(shard.keys):
            shard.tar.unlink(missing_ok=True)
    done = [shard for shard in done if len(shard.keys)]
    if not done:
        raise DistillError(f"none of the files could be decoded: {target / 'unreadable.tsv'} lists them")
    shutil.rmtree(target / FOLDER, ignore_errors=True)  # Of a packing that was killed at its very end.
    shards = [Shard(name=s.tar.name, num_rows=len(s.keys), size_bytes=s.tar.stat().st_size) for s in done]
    fingerprint = write_catalog(
        target,
        keys=Keys.of(shard.keys[n] for shard in done for n in range(len(shard.keys))),
        labels=np.concatenate([shard.labels for shard in done]),
        offsets=np.concatenate([shard.offsets for shard in done]),
        sizes=np.concatenate([shard.sizes for shard in done]),
        digests=np.concatenate([shard.digests for shard in done]),
        class_names=class_names,
        shards=shards,
        options=options,
    )
    shutil.rmtree(target / RECORDS)
    return Packed(
        num_rows=sum(shard.num_rows for shard in shards),
        num_classes=len(class_names),
        num_shards=len(shards),
        size_bytes=sum(shard.size_bytes for shard in shards),
        fingerprint=fingerprint,
        unreadable=unreadable,
        num_transparent=sum(shard.num_transparent for shard in done),
    )
