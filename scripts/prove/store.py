"""Proof that a store is never silently wrong: random damage, killed writers, two writers at once, a full disk.

    python scripts/prove/store.py runs/prove --corruptions 1000 --kills 200

WORK is a folder for the stores, which must not exist. Prints what happened and exits with 1 if anything was wrong: a
value read that was not written, a committed block lost, or a clean check of a damaged store. Takes minutes on one core.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import logitstore
from logitstore.storage import open_storage
from scripts.prove.store_damage import damage, undo

Content = dict[tuple[int, int], bytes]
"""(epoch, block) -> all that can be read of it."""
Values = dict[str, Any]
"""Keyword arguments of `logitstore.Writer.write`."""
SPEC = logitstore.StoreSpec(
    num_samples=4500, num_epochs=2, num_classes=1000, topk=10, rows_per_block=2048, view={"scale": [0.08, 1.0]},
    tail_groups=2,
)  # fmt: skip
KEYS, LABELS = np.random.default_rng(0).integers(0, 2**63, 4500), np.arange(4500) % 1000
BLOCKS = [(epoch, block) for epoch in range(SPEC.num_epochs) for block in range(SPEC.num_blocks)]


def views(epoch: int, block: int, *, version: int = 0) -> Values:
    """Plausible outputs of a teacher on a block; other ones for another `version`."""
    rng = np.random.default_rng([epoch, block, version])
    n = len(SPEC.block_rows(block))
    logits = rng.normal(size=(n, SPEC.num_classes)).astype(np.float32) * 3
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    indices = np.argsort(-logprobs, axis=1)[:, : SPEC.topk]
    logprobs = np.take_along_axis(logprobs, indices, axis=1)
    seeds = np.arange(n, dtype=np.uint64) + np.uint64(2**40 * version + 10_000 * (epoch * SPEC.num_blocks + block))
    tail = np.log1p(-np.exp(logprobs.astype(np.float64)).sum(axis=1)).astype(np.float32)
    return {"seeds": seeds, "indices": indices, "logprobs": logprobs, "tail": tail, "proof": 7 + version}


def tail_model(version: int) -> logitstore.TailModel:
    """The average of a teacher's outputs; other ones for another `version`."""
    logits = np.random.default_rng(version).normal(size=(2, SPEC.num_classes))
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logitstore.TailModel(groups=np.arange(SPEC.num_classes) % 2, logprobs=logprobs.astype(np.float32))


def block_content(store: logitstore.Store, epoch: int, block: int) -> bytes:
    """Everything that a reader gets of a block. **Raises:** `StoreError`."""
    rows = store.read(epoch=epoch, rows=store.spec.block_rows(block))
    arrays = [rows.seeds, rows.indices, rows.logprobs, rows.tail, np.array(store.proof(epoch, block), np.uint64)]
    arrays += [store.keys(store.spec.block_rows(block)), store.labels(store.spec.block_rows(block))]
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def readable(path: Path) -> Content:
    """All blocks that can be read; those that are absent or refused are left out."""
    content = {}
    try:
        store = logitstore.open(path)
    except logitstore.StoreError:
        return {}
    try:
        model = store.tail_model()
    except logitstore.StoreError:
        return {}
    assert model is not None
    for epoch, block in BLOCKS:
        try:
            content[epoch, block] = block_content(store, epoch, block) + model.logprobs.tobytes()
        except logitstore.StoreError:
            continue
    return content


def make(path: Path, *, version: int = 0, samples: int = 0) -> Content:
    """A store of one version of views, and one of labels and tail model. **Returns** its content."""
    logitstore.create(path, SPEC, keys=KEYS, labels=(LABELS + samples) % 1000, tail_model=tail_model(samples))
    with logitstore.writer(path) as writer:
        for epoch, block in BLOCKS:
            writer.write(epoch, block, **views(epoch, block, version=version))
    return readable(path)


def prove_corruptions(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """Damages, reads, checks and restores a store many times. **Returns** how often each outcome occurred."""
    path, other, old = (work / f"{name}.zarr" for name in ("good", "other", "old"))
    make(path)
    make(other, version=1, samples=1)
    shutil.copytree(path, old)
    with logitstore.writer(path) as writer:
        for epoch, block in BLOCKS:
            writer.write(epoch, block, **views(epoch, block), replace=True)
    expected = readable(path)
    results: Counter[str] = Counter()
    with click.progressbar(range(number), label="corruptions", file=sys.stderr) as bar:
        for _ in bar:
            kind, saved = damage(path, other=other, old=old, spec=SPEC, rng=rng)
            content = readable(path)
            try:
                clean = logitstore.check(path).ok
            except logitstore.StoreError:
                clean = False
            if any(expected[place] != read for place, read in content.items()):
                results["WRONG values"] += 1
                click.echo(f"wrong values after: {kind} {[str(p.relative_to(path)) for p in saved]}")
            elif clean and content != expected:
                results["WRONG: checked clean"] += 1
            elif content != expected:
                results["detected by reading"] += 1
            else:
                results["without effect" if clean else "detected by check, values still right"] += 1
            undo(saved)
    assert readable(path) == expected
    return dict(results)


def in_child(work: Callable[[], None]) -> int:
    """Runs a function in a forked process. **Returns** its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def write_missing(path: Path, *, replace: bool, seed: int) -> None:
    order = random.Random(seed).sample(BLOCKS, len(BLOCKS))
    with logitstore.writer(path) as writer:
        done = logitstore.open(path).done()
        for epoch, block in order:
            if replace or not done[epoch, block]:
                writer.write(epoch, block, **CACHED[epoch, block], replace=replace)


CACHED: dict[tuple[int, int], Values] = {}


def prove_kills(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """Writers killed at random moments, half of them while they replace committed blocks."""
    CACHED.update({place: views(*place) for place in BLOCKS})
    begin = time.monotonic()
    expected = make(work / "whole.zarr")
    longest = (time.monotonic() - begin) / 4  # About the time of writing; the rest is making the views.
    path = work / "killed.zarr"
    results: Counter[str] = Counter()
    with click.progressbar(length=number, label="kills", file=sys.stderr) as bar:
        while results["killed"] < number:
            if not path.exists() or readable(path) == expected:
                shutil.rmtree(path, ignore_errors=True)
                logitstore.create(path, SPEC, keys=KEYS, labels=LABELS, tail_model=tail_model(0))
            before, replace = readable(path), rng.random() < 0.3
            pid = in_child(partial(write_missing, path, replace=replace, seed=rng.randrange(2**32)))
            time.sleep(rng.uniform(0, longest))
            os.kill(pid, signal.SIGKILL)
            if not os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
                results["ended before the kill"] += 1
            else:
                results["killed"] += 1
                bar.update(1)
            content = readable(path)
            results["committed blocks found"] += len(content)
            results["WRONG blocks"] += sum(expected[place] != read for place, read in content.items())
            if not replace:
                results["LOST blocks"] += len(before.keys() - content.keys())
            if set(map(tuple, np.argwhere(logitstore.open(path).done()).tolist())) != set(content):
                results["DAMAGED blocks"] += 1
    return dict(results)


def prove_two_writers(work: Path, rounds: int) -> dict[str, int]:
    """Two processes write every block at the same time, each another version, without the store's lock."""
    versions = [{place: views(*place, version=version) for place in BLOCKS} for version in range(2)]
    whole = [make(work / f"version{version}.zarr", version=version) for version in range(2)]
    results: Counter[str] = Counter()
    path = work / "contested.zarr"
    for _ in range(rounds):
        shutil.rmtree(path, ignore_errors=True)
        logitstore.create(path, SPEC, keys=KEYS, labels=LABELS, tail_model=tail_model(0))

        def write(version: int) -> None:
            with logitstore.writer(path, exclusive=False) as writer:
                for epoch, block in BLOCKS:
                    try:
                        writer.write(epoch, block, **versions[version][epoch, block])
                    except logitstore.BlockExists:
                        continue

        pids = [in_child(partial(write, version)) for version in range(2)]
        for pid in pids:
            if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                results["FAILED writers"] += 1
        content = readable(path)
        for place in BLOCKS:
            versions_read = [version for version in range(2) if content.get(place) == whole[version][place]]
            results[f"blocks of writer {versions_read[0]}" if versions_read else "MIXED blocks"] += 1
    return dict(results)


@contextmanager
def full_disk(at_call: int) -> Iterator[None]:
    """The disk is full from the n-th flush on."""
    calls, real = itertools.count(1), os.fsync

    def fsync(descriptor: Any) -> None:
        if next(calls) >= at_call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with mock.patch.object(os, "fsync", fsync):
        yield


def prove_full_disk(work: Path) -> dict[str, int]:
    """The disk is full at each of a block's five flushes, for a new block and for a replaced one."""
    path, results = work / "full.zarr", Counter[str]()
    expected = make(path)
    for replace in (False, True):
        for call in range(1, 6):
            (path / "proofs/c/1/1").unlink(missing_ok=True)
            if replace:
                with logitstore.writer(path) as writer:
                    writer.write(1, 1, **views(1, 1))
            with full_disk(call), logitstore.writer(path) as writer:
                try:
                    writer.write(1, 1, **views(1, 1, version=1), replace=replace)
                    results["UNNOTICED"] += 1
                except logitstore.StoreFull:
                    results["clear errors"] += 1
            remaining = {place: read for place, read in expected.items() if replace or place != (1, 1)}
            intact = readable(path) == remaining and not open_storage(path).list_temporary()
            results["stores intact" if intact else "stores DAMAGED"] += 1
    return dict(results)


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--corruptions", default=1000, show_default=True)
@click.option("--kills", default=200, show_default=True)
@click.option("--rounds", default=40, show_default=True, help="Rounds of two writers at once.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the counts to a file.")
def main(work: Path, corruptions: int, kills: int, rounds: int, seed: int, json_file: Path | None) -> None:
    """Runs the proof in WORK, a folder that must not exist."""
    work.mkdir(parents=True)
    rng = random.Random(seed)
    results = {
        "corruptions": prove_corruptions(work, corruptions, rng),
        "kills": prove_kills(work, kills, rng),
        "two writers": prove_two_writers(work, rounds),
        "full disk": prove_full_disk(work),
    }
    wrong = 0
    for name, counts in results.items():
        click.echo(name)
        for outcome, count in sorted(counts.items()):
            click.echo(f"  {count:6,}  {outcome}")
            wrong += count if re.search("[A-Z]{4}", outcome) else 0
    click.echo("nothing was silently wrong" if not wrong else f"{wrong} times WRONG")
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
