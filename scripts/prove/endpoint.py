"""Proof that a faulty endpoint costs nothing but time: repairs, copies and students of stores behind one.

    python scripts/prove/endpoint.py runs/endpoint --runs 50

The store lies behind `flaky://`, a file system in memory that answers wrongly at random, in one of eight ways. Each run
repairs it, copies it or trains a student from it. No good block may be lost, and what comes out is right, or there is
one error. Exits with 1 otherwise. Takes some minutes on one core.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import shutil
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import click
import cv2
import fsspec
import numpy as np
import torch
from fsspec.implementations.memory import MemoryFileSystem

import logitstore
from distill import models
from distill.config import SaveLogitsConfig, TrainStudentConfig
from distill.config.command import load
from distill.data.packing.pack import pack
from distill.errors import DistillError
from distill.models.weights.tensor_files import read_tensors, state_sha256
from logitstore.storage import remote_files
from logitstore.tools import repair as repairs

KINDS = ("missing", "refused", "error", "flipped", "shortened", "another object", "connection cut", "slow")
"""404, 403, 500, a changed body, a cut body, the body of another object, no end of the answer, no answer in time."""
ERRORS = (DistillError, logitstore.StoreError, models.ModelError, models.WeightsError)
STORE = "flaky://bucket/t.zarr"


class Flaky(MemoryFileSystem):
    """Objects in memory, behind a server that is wrong in one way in some of its answers."""

    protocol: ClassVar[str] = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    kind: ClassVar[str] = ""
    share: ClassVar[float] = 0.0
    rng: ClassVar[random.Random] = random.Random(0)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return MemoryFileSystem._strip_protocol(str(path).replace("flaky://", "memory://"))

    def _fault(self, path: str) -> str:
        """The kind of this answer's fault; empty for a good one."""
        if self.rng.random() >= self.share:
            return ""
        if self.kind == "missing":
            raise FileNotFoundError(path)
        if self.kind == "refused":
            raise PermissionError("403")
        if self.kind == "error":
            raise OSError("500 internal server error")
        if self.kind == "connection cut":
            raise ConnectionResetError("the connection was reset")
        if self.kind == "slow":
            time.sleep(0.4)
        return self.kind

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        fault = self._fault(path)
        if fault == "another object":
            path = self.rng.choice(sorted(self.store))
        data = bytes(super().cat_file(path, start=start, end=end, **more))
        if fault == "flipped" and data:
            changed = bytearray(data)
            changed[self.rng.randrange(len(changed))] ^= 1 << self.rng.randrange(8)
            return bytes(changed)
        return data[: self.rng.randrange(len(data))] if fault == "shortened" and data else data

    def info(self, path: str, **more: Any) -> Any:
        self._fault(path)
        return super().info(path, **more)


@contextlib.contextmanager
def faults(kind: str, *, share: float, seed: int) -> Any:
    """Within, so many answers are wrong."""
    Flaky.kind, Flaky.share, Flaky.rng = kind, share, random.Random(seed)
    try:
        yield
    finally:
        Flaky.share = 0.0


def make(work: Path) -> list[str]:
    """Images, a teacher's weights and a store behind `flaky://`. **Returns** the arguments of a student pass."""
    from distill import save_logits

    rng = np.random.default_rng(0)
    for number in range(96):
        path = work / "images" / "abc"[number % 3] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (32, 32, 3), np.uint8))
    pack(work / "images", work / "data", rows_per_shard=24)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"dims": [8, 16, 24, 32], "depths": [1] * 4, "heads": [1, 1, 2, 2], "windows": [4] * 4}
    net = models.build("tiny_vit", num_classes=3, image_size=32, **sizes)
    models.save_weights(net, work / "teacher.safetensors", metadata={"mean": "[0, 0, 0]", "std": "[1, 1, 1]"})
    words = [
        f"data.path={work / 'data'}", "teacher=tiny_vit", f"teacher.weights={work / 'teacher.safetensors'}",
        f"store.path={STORE}", "store.topk=2", "store.epochs=2", "store.rows_per_block=16", "data.workers=0",
        "batch_size=16", "compute.threads=1",
    ]  # fmt: skip
    save_logits.main(load("save_logits", SaveLogitsConfig, words))
    return [
        f"data.path={work / 'data'}", f"store.path={STORE}", "student=tiny_vit_micro", "student.image_size=32",
        *(f"student.{name}={json.dumps(value)}" for name, value in sizes.items()), "train.batch_size=16",
        "train.epochs=2", "train.steps=8", "optim.base_batch=null", "data.workers=0", "compute.threads=1",
    ]  # fmt: skip


def content(path: str) -> dict[str, str]:
    """Digests of all that a store holds."""
    store, found = logitstore.open(path), {}
    for epoch, block in np.argwhere(store.done()).tolist():
        rows = store.read(epoch=epoch, rows=store.spec.block_rows(block))
        values = b"".join(
            np.ascontiguousarray(a).tobytes() for a in (rows.seeds, rows.indices, rows.logprobs, rows.tail)
        )
        found[f"{epoch} {block}"] = hashlib.sha256(values + str(store.proof(epoch, block)).encode()).hexdigest()
    found["samples"] = hashlib.sha256(
        store.keys(slice(None)).tobytes() + store.labels(slice(None)).tobytes()
    ).hexdigest()
    return found


def student(words: list[str], folder: Path) -> str:
    """The digest of a student's weights."""
    from distill import train_student

    train_student.main(load("train_student", TrainStudentConfig, [*words, f"run.dir={folder}"]))
    return state_sha256(read_tensors(folder / "student.safetensors"))


def run(
    task: str, words: list[str], work: Path, expected: dict[str, Any], *, kind: str, share: float, seed: int
) -> str:
    """One run. **Returns** its outcome; words in capitals are failures."""
    objects = {path: file.getvalue() for path, file in Flaky.store.items()}
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with faults(kind, share=share, seed=seed):
            if task == "repair":
                result = logitstore.repair(STORE)
                right = not result.dropped and not result.metadata
            elif task == "copy":
                logitstore.copy(STORE, scratch)
                right = True
            else:
                right = student(words, scratch) == expected["student"]
        if task == "copy":
            right = content(str(scratch)) == expected["store"]
        outcome = "right" if right else "WRONG"
    except ERRORS as error:
        outcome = "one error" if len(str(error)) < 2000 else "LONG error"
    except Exception:
        click.echo(f"{task}, {kind}:\n{traceback.format_exc()}")
        outcome = "TRACEBACK"
    same = content(STORE) == expected["store"]
    if task != "repair":
        same = same and {path: file.getvalue() for path, file in Flaky.store.items()} == objects
    return outcome if same else "LOST blocks"


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--runs", default=50, show_default=True)
@click.option("--share", default=0.06, show_default=True, help="Of wrong answers.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the counts to a file.")
def main(work: Path, runs: int, share: float, seed: int, json_file: Path | None) -> None:
    """Runs the proof in WORK, a folder that must not exist."""
    work = work.resolve()
    work.mkdir(parents=True)
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.store.clear()
    remote_files.TIMEOUT_S, remote_files.PAUSE_S = 0.2, 0.01
    repairs.PAUSES_S = (0.01,) * len(repairs.PAUSES_S)
    counts: Counter[str] = Counter()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        words = make(work)
        expected = {"store": content(STORE), "student": student(words, work / "undisturbed")}
    with click.progressbar(range(runs), label="runs", file=sys.stderr) as bar:
        for number in bar:
            kind, task = KINDS[number % len(KINDS)], ("repair", "copy", "student")[number // len(KINDS) % 3]
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()) as said:
                outcome = run(task, words, work, expected, kind=kind, share=share, seed=seed + number)
            counts[f"{task}, {kind}: {outcome}"] += 1
            if outcome.split()[0].isupper():
                click.echo(said.getvalue()[-3000:])
    for outcome, count in sorted(counts.items()):
        click.echo(f"  {count:4,}  {outcome}")
    wrong = sum(count for outcome, count in counts.items() if outcome.rpartition(": ")[2].split()[0].isupper())
    right = sum(count for outcome, count in counts.items() if outcome.endswith(": right"))
    click.echo(f"{runs} runs: {right} right, {runs - right - wrong} with one error, {wrong} WRONG")
    if json_file is not None:
        json_file.write_text(json.dumps(counts, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
