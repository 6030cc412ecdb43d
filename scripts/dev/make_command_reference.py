"""Makes docs/commands.md: help and transcripts of every command of `logitstore`, and of programs of `distill`.

    python scripts/dev/make_command_reference.py

The transcripts are run on small synthetic stores in a temporary folder. A test compares the file with their output.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from click.testing import CliRunner

import logitstore
from logitstore.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs" / "commands.md"
INTRODUCTION = """# Commands of `logitstore`

Made by `scripts/dev/make_command_reference.py` from the commands themselves; the transcripts are real. A store is named
by a path, or by a URL of object storage (`s3://`, `gs://`, `hf://`, `memory://`; the driver is a package of its own,
for `s3://` the extra `s3`). Object storage has no lock: make sure that only one run writes at a time.

Reads behind a URL are tried again: `LOGITSTORE_RETRIES` (5) further times, `LOGITSTORE_TIMEOUT_S` (30) seconds each.

Exit codes: 0 done; 1 a check failed, stores differ, or the work could not be done, with one message on stderr; 2 wrong
usage. Every command takes `--json`; long work shows its progress on stderr where that is a terminal.

Below, `part-a.zarr` and `part-b.zarr` are halves of `teacher.zarr`, `damaged.zarr` is a copy with a flipped
bit, and `old.zarr` is of format version 1.
"""
SHOWN: dict[str, tuple[str, ...]] = {
    "info": ("info teacher.zarr", "info teacher.zarr --json"),
    "show": ("show teacher.zarr --epoch 0 --row 12",),
    "check": ("check teacher.zarr", "check damaged.zarr"),
    "stats": ("stats teacher.zarr --classes 3",),
    "diff": ("diff teacher.zarr damaged.zarr", "diff teacher.zarr part-a.zarr"),
    "plan": ("plan --samples 1281167 --epochs 300 --topk 10 --images-per-s 2500 --gpus 8",),
    "grow": ("grow part-b.zarr --epochs 4",),
    "merge": ("merge whole.zarr part-a.zarr part-b.zarr",),
    "copy": ("copy teacher.zarr memory://bucket/teacher.zarr --epochs 1", "copy teacher.zarr copy.zarr --epochs 7"),
    "upgrade": ("upgrade old.zarr new.zarr", "upgrade teacher.zarr newer.zarr"),
    "recode": ("recode teacher.zarr small.zarr --topk 2", "diff teacher.zarr small.zarr"),
    "repair": ("repair damaged.zarr --dry-run", "repair damaged.zarr"),
    "restore": ("restore teacher.zarr 20261126T120000-1f2e",),
    "export": ("export teacher.zarr views.jsonl --epoch 0 --rows 0:2",),
    "import-tinyvit": ("import-tinyvit logits imported.zarr --classes 8", "show imported.zarr --row 0"),
}

PROGRAMS_INTRODUCTION = """# Programs of `distill`

Settings are `KEY=VALUE`; an unknown one is refused. Exit codes are those above, and 75 if a pass was stopped in good
order. `--help` prints the settings of every program.
"""
PROGRAMS: dict[str, tuple[str, ...]] = {
    "gallery": (
        "store.path=teacher.zarr out=gallery.html show.rows=6 show.extremes=4",
        "store.path=part-a.zarr out=views.jsonl",
    ),
}
"""Program -> settings of its transcripts, which run after those of `logitstore`, on the same files."""


def make_store(path: str, blocks: list[tuple[int, int]]) -> None:
    """Makes a store: 2,000 samples of 8 classes, 2 epochs of 2 blocks, top 3."""
    names = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
    spec = logitstore.StoreSpec(
        num_samples=2000, num_epochs=2, num_classes=8, topk=3, rows_per_block=1024,
        teacher={"name": "example", "class_names": names}, data={"fingerprint": "0123", "class_names": names},
    )  # fmt: skip
    labels = np.arange(2000) % 8
    logitstore.create(path, spec, keys=np.arange(2000, dtype=np.uint64) * 2**40, labels=labels)
    with logitstore.writer(path) as writer:
        for epoch, block in blocks:
            rows = spec.block_rows(block)
            rng = np.random.default_rng([epoch, block])
            logits = rng.normal(size=(len(rows), 8)) + 3 * (np.arange(8) == labels[rows.start : rows.stop, None])
            logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            order = np.argsort(-logprobs, axis=1)
            logprobs = np.take_along_axis(logprobs, order, axis=1)
            writer.write(
                epoch, block, seeds=np.arange(rows.start, rows.stop, dtype=np.uint64) + np.uint64(2000 * epoch),
                indices=order[:, :3], logprobs=logprobs[:, :3].astype(np.float32),
                tail=np.logaddexp.reduce(logprobs[:, 3:], axis=1).astype(np.float32), proof=1 + epoch,
            )  # fmt: skip


def make_examples() -> None:
    """Makes all files that the transcripts need, in the working folder."""
    make_store("teacher.zarr", [(0, 0), (0, 1), (1, 0), (1, 1)])
    make_store("part-a.zarr", [(0, 0), (0, 1)])
    make_store("part-b.zarr", [(1, 0), (1, 1)])
    logitstore.copy("teacher.zarr", "damaged.zarr")
    damaged = Path("damaged.zarr/logprobs/c/1/0/0")
    data = bytearray(damaged.read_bytes())
    data[100] ^= 1
    damaged.write_bytes(data)
    shutil.copytree(ROOT / "tests/logitstore/golden/v1-log8.zarr", "old.zarr")
    folder = Path("logits/logits_top2_epoch0")
    folder.mkdir(parents=True)
    (folder / "rank0-keys.txt").write_text("n01/a.jpg\nn01/b.jpg\n")
    records = [(1234, [3, 1], [0.5, 0.25]), (-99, [2, 7], [0.75, 0.125])]
    np.array(records, [("seed", "<i4"), ("indices", "<i2", 2), ("values", "<f2", 2)]).tofile(
        folder / "rank0-values.bin"
    )


def transcript(arguments: str) -> str:
    """A command line and its output; long lines are cut."""
    result = CliRunner().invoke(main, shlex.split(arguments), prog_name="logitstore")
    output = re.sub(r"\d{8}T\d{6}-[0-9a-f]{4}", "20261126T120000-1f2e", result.output)  # Made of the time.
    lines = [f"$ logitstore {arguments}", *output.rstrip().splitlines()]
    lines = [line.rstrip() if len(line) <= 118 else f"{line[:115]}..." for line in lines]
    return "\n".join([*lines, *([f"(exit code {result.exit_code})"] if result.exit_code else [])])


def program(name: str, arguments: str) -> str:
    """What `python -m distill.NAME ARGUMENTS` prints: stdout, and error messages of stderr."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, [name, *shlex.split(arguments)]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_module(f"distill.{name}", run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv = before
    errors = [line for line in err.getvalue().splitlines() if line.startswith("error: ")]
    lines = [*out.getvalue().rstrip().splitlines(), *errors, *([f"(exit code {code})"] if code else [])]
    return "\n".join(lines)


def reference() -> str:
    """The whole document."""
    parts = [INTRODUCTION]
    for command in COMMANDS:
        assert command.name is not None
        help_text = (
            CliRunner().invoke(main, [command.name, "--help"], prog_name="logitstore", terminal_width=100).output
        )
        parts.append(f"## {command.name}\n\n```text\n{help_text.rstrip()}\n```\n")
        shown = "\n\n".join(transcript(arguments) for arguments in SHOWN[command.name])
        parts.append(f"```console\n{shown}\n```\n")
    parts.append(PROGRAMS_INTRODUCTION)
    for name, examples in PROGRAMS.items():
        parts.append(f"## distill.{name}\n\n```text\n{program(name, '--help')}\n```\n")
        shown = "\n\n".join(
            f"$ python -m distill.{name} {arguments}\n{program(name, arguments)}" for arguments in examples
        )
        parts.append(f"```console\n{shown}\n```\n")
    return "\n".join(parts)


def make() -> str:
    """The document, made in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["COLUMNS"] = "100"
        make_examples()
        return reference()


@click.command()
def write() -> None:
    """Writes docs/commands.md."""
    TARGET.write_text(make(), encoding="utf-8")
    click.echo(f"{TARGET} written")


if __name__ == "__main__":
    write()
