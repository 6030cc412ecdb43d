"""Proof that a damaged run never goes on, or is scored, wrongly: random damage to checkpoints and run folders.

    python scripts/prove/runs.py runs/runs --corruptions 200

WORK is a folder for the runs, which must not exist. After each damage a stopped run is resumed to its end, a finished
one is evaluated, exported and put into the gallery. The result is that of the undamaged run, or there is one error.
Exits with 1 otherwise. Takes minutes on one core.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import shutil
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import logitstore
from distill import evaluate, export, models, train_student
from distill.config import EvaluateConfig, ExportConfig, TrainStudentConfig
from distill.config.command import load
from distill.data.packing.pack import pack
from distill.errors import DistillError, Stopped
from distill.models.weights.tensor_files import read_tensors, state_sha256
from scripts.prove.fuzz_mutations import mutate
from scripts.prove.fuzz_reader import Reader

ERRORS = (DistillError, logitstore.StoreError, models.ModelError, models.WeightsError)
SIZES = (
    "student.dims=[8,16,24,32]",
    "student.depths=[1,1,1,1]",
    "student.heads=[1,1,2,2]",
    "student.windows=[4,4,4,4]",
)
FREE_OF_EFFECT = ("summary.md", "curves.png")
KINDS = ("flip bits", "truncate", "zero a range", "delete", "another run's file", "another step's file", "mutate")


def make_data(work: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(48):
        path = work / "images" / "abc"[number % 3] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (32, 32, 3), np.uint8))
    pack(work / "images", work / "data", rows_per_shard=24)
    return work / "data"


def train(data: Path, folder: Path, *, seed: int, stop: bool = False) -> None:
    """Six steps with a checkpoint every two; `stop` ends it after four."""
    words = [
        f"data.path={data}", f"data.val_path={data}", f"run.dir={folder}", "student=tiny_vit_micro",
        "student.image_size=32", *SIZES, "train.batch_size=16", "train.steps=6", "optim.base_batch=null",
        "run.save_every=2", "run.keep=3", "run.log_every=1", "eval.every=0", "data.workers=0", "compute.threads=1",
        f"train.seed={seed}",
    ]  # fmt: skip
    config = load("train_student", TrainStudentConfig, words)
    if not stop:
        train_student.main(config)
        return
    real = train_student.train_to_end

    def stopping(config: Any, student_pass: Any, training: Any, run_state: Any, **more: Any) -> str | None:
        stopping = more["stopping"]
        stopping.agreed = lambda: "stopped" if training.step >= 4 else None
        return real(config, student_pass, training, run_state, **more)

    train_student.train_to_end = stopping
    try:
        train_student.main(config)
    except Stopped:
        return
    finally:
        train_student.train_to_end = real
    raise AssertionError("it was not stopped")


def weights(folder: Path) -> str:
    return state_sha256(read_tensors(folder / "student.safetensors"))


def use(run: Path, data: Path, scratch: Path) -> dict[str, str]:
    """What a finished run gives: scores, exported weights. Also makes a gallery's curves of it."""
    words = [f"data.val_path={data}", f"run.dir={run}", f"json={scratch / 's.json'}", "data.workers=0"]
    evaluate.main(load("evaluate", EvaluateConfig, words))
    scores = json.loads((scratch / "s.json").read_text())
    out = scratch / "out.safetensors"
    export.main(load("export", ExportConfig, [f"run.dir={run}", "format=safetensors", f"out={out}", "overwrite=true"]))
    from distill.page.curves import read_run

    read_run(str(run))
    return {"top1": str(scores["top1"]), "loss": f"{scores['loss']:.9g}", "weights": state_sha256(read_tensors(out))}


def damage(run: Path, other: Path, rng: random.Random) -> str:
    """Damages one file of a run. **Returns** what was done."""
    names = [p for p in sorted(run.rglob("*")) if p.is_file() and p.name not in FREE_OF_EFFECT]
    target, kind = rng.choice(names), rng.choice(KINDS)
    if rng.random() < 0.4:
        target = rng.choice([p for p in names if p.suffix in (".pt", ".safetensors")])
    where = f"{kind}: {target.relative_to(run)}"
    data = bytearray(target.read_bytes())
    if kind == "delete":
        target.unlink()
    elif kind == "another run's file" and (other / target.relative_to(run)).exists():
        shutil.copy(other / target.relative_to(run), target)
    elif kind == "another step's file":
        target.write_bytes(rng.choice([p for p in names if p.suffix == target.suffix]).read_bytes())
    elif kind == "mutate":
        kinds = {".pt": "checkpoint", ".yaml": "yaml", ".json": "json", ".jsonl": "jsonl"}
        reader = Reader(name="", kind=kinds.get(target.suffix, "bytes"), files={"x": bytes(data)}, read=lambda *_: None)
        target.write_bytes(mutate(reader, rng)[1])
    elif kind == "truncate":
        target.write_bytes(data[: rng.randrange(len(data))])
    else:
        at = rng.randrange(len(data))
        data[at : at + 16] = bytes(len(data[at : at + 16])) if kind == "zero a range" else bytes([data[at] ^ 1])
        target.write_bytes(data[: len(target.read_bytes())])
    return where


def prove(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """Damages, uses and restores runs many times. **Returns** how often each outcome occurred."""
    data = make_data(work)
    with quiet():
        for name, seed, stop in (("whole", 1, False), ("other", 2, False), ("half", 1, True), ("other_half", 2, True)):
            train(data, work / name, seed=seed, stop=stop)
        expected = use(work / "whole", data, work)
    # A run whose folder has another name is another run to its settings only by `run.`, which is free.
    end = weights(work / "whole")
    results: Counter[str] = Counter()
    with click.progressbar(range(number), label="corruptions", file=sys.stderr) as bar:
        for count in bar:
            stopped = count % 2 == 0
            run = work / "run"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(work / ("half" if stopped else "whole"), run)
            what = damage(run, work / ("other_half" if stopped else "other"), rng)
            try:
                with quiet():
                    if stopped:
                        train(data, run, seed=1)
                        right = weights(run) == end
                    else:
                        right = use(run, data, work) == expected
                outcome = "right" if right else "WRONG result"
            except ERRORS as error:
                outcome = "one error" if len(str(error)) < 2000 else "LONG error"
            except Exception:
                click.echo(traceback.format_exc())
                outcome = "TRACEBACK"
            results[f"{'stopped' if stopped else 'finished'} run: {outcome}"] += 1
            if outcome.split()[0].isupper():
                click.echo(f"{outcome} after {what}")
    return dict(results)


@contextlib.contextmanager
def quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--corruptions", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the counts to a file.")
def main(work: Path, corruptions: int, seed: int, json_file: Path | None) -> None:
    """Runs the proof in WORK, a folder that must not exist."""
    work = work.resolve()
    work.mkdir(parents=True)
    torch.set_num_threads(1)
    counts = prove(work, corruptions, random.Random(seed))
    for outcome, count in sorted(counts.items()):
        click.echo(f"  {count:4,}  {outcome}")
    wrong = sum(count for outcome, count in counts.items() if re.search("[A-Z]{4}", outcome))
    click.echo("nothing was silently wrong" if not wrong else f"{wrong} times WRONG")
    if json_file is not None:
        json_file.write_text(json.dumps(counts, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
