"""A fuzzer over every reader of bytes that come from others.

    python scripts/prove/fuzz.py runs/fuzz --inputs 20000

Each input is a valid file, changed: bits, lengths, counts and names, and the checksums mended after that, so that the
changes get past them. An input must be taken, or refused by one of the product's own errors. Anything else (another
exception, a crash, more than 10 seconds, more than 2 GB) is a failure: it is listed with the file that caused it, and
the program exits with 1. Inputs are made by a mutator that knows the formats, from a seed; a fuzzer that is led by
coverage would not get past the checksums. Every reader runs in a process of its own, which is replaced when it dies.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
from collections import Counter
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import logitstore
from distill import models
from distill.errors import DistillError
from scripts.prove.fuzz_mutations import mutate
from scripts.prove.fuzz_reader import Reader
from scripts.prove.fuzz_readers import make_readers

ALLOWED = (DistillError, logitstore.StoreError, models.ModelError, models.WeightsError)
TIME_S = 10.0
MEMORY_BYTES = 2 * 2**30
"""Above what the process has before it reads anything."""


def read_all(
    reader: Reader, folder: Path, *, seed: int, first: int, count: int, at: Synchronized[int], failures: Any
) -> None:
    """Runs a reader on inputs `first` to `count`; `at` is the one in work, so that the parent knows it. Puts the
    outcomes into the queue `failures`: (input, what went wrong), and at the end the counts."""
    os.chdir(folder)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    counts: Counter[str] = Counter()
    for number in range(first, count):
        at.value = number
        name, data = mutate(reader, random.Random(f"{seed} {reader.name} {number}"))
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                reader.read(folder, name, data)
            counts["taken"] += 1
        except ALLOWED:
            counts["refused"] += 1
        except BaseException as error:
            failures.put((number, "".join(traceback.format_exception(error))[-3000:]))
    failures.put((count, dict(counts)))


def run(reader: Reader, folder: Path, *, seed: int, count: int) -> tuple[Counter[str], list[tuple[int, str]]]:
    """All inputs of one reader, by as many processes as it takes. **Returns** the counts and the failures."""
    context = multiprocessing.get_context("fork")
    counts: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    first = 0
    while first < count:
        at: Any = context.Value("q", first)
        outcomes: Any = context.SimpleQueue()
        child = context.Process(
            target=read_all, args=(reader, folder),
            kwargs={"seed": seed, "first": first, "count": count, "at": at, "failures": outcomes},
        )  # fmt: skip
        child.start()
        begun, current, finished = time.monotonic(), first, False
        while child.is_alive() or not outcomes.empty():
            while not outcomes.empty():
                number, outcome = outcomes.get()
                if number == count:
                    counts.update(outcome)
                    finished = True
                else:
                    failed.append((number, outcome))
            if at.value != current:
                begun, current = time.monotonic(), at.value
            elif child.is_alive() and not finished and time.monotonic() - begun > TIME_S:
                child.kill()
                failed.append((current, f"took longer than {TIME_S:g} s"))
                break
            time.sleep(0.01)
        child.join()
        if finished:
            break
        if child.exitcode is not None and child.exitcode < 0 and not (failed and failed[-1][0] == current):
            failed.append((current, f"the process died by signal {-child.exitcode}"))
        counts["before a restart"] += current - first
        first = current + 1
    return counts, failed


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--inputs", default=20_000, show_default=True, help="In all, divided among the readers.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", help="Names of readers that hold this text.")
def main(work: Path, inputs: int, seed: int, only: str | None) -> None:
    """Runs the fuzzer in WORK, a folder that must not exist; failures stay there."""
    work = work.resolve()
    torch.set_num_threads(1)  # A fork has no threads, and would wait for them.
    (work / "failures").mkdir(parents=True)
    readers = [reader for reader in make_readers(work / "valid") if not only or only in reader.name]
    total, all_failed = 0, 0
    for number, reader in enumerate(readers):
        count = inputs * (number + 1) // len(readers) - inputs * number // len(readers)
        folder = work / f"{number:02d}"
        folder.mkdir()
        counts, failed = run(reader, folder, seed=seed, count=count)
        total += count
        all_failed += len(failed)
        click.echo(f"{reader.name:32} {count:6,} inputs  {dict(counts)}  {len(failed)} failures")
        for at, reason in failed[:5]:
            name, data = mutate(reader, random.Random(f"{seed} {reader.name} {at}"))
            file = work / "failures" / f"{reader.name.replace(' ', '-')}-{at}"
            file.write_bytes(data)
            click.echo(f"  input {at} ({name}), in {file}:\n    " + reason.strip().replace("\n", "\n    "))
    click.echo(f"{total:,} inputs, {all_failed} failures")
    sys.exit(1 if all_failed else 0)


if __name__ == "__main__":
    main()
