"""Proof that nothing is lost: passes killed with SIGKILL at random moments against the same passes left alone.

    python scripts/prove_kills.py runs/kills --kills 12 --processes 1

On the embedded pictures: a teacher pass (8 stored epochs, 48 blocks) and a student pass from its store (with drop
path, accumulation and a loader process) are run once undisturbed, then again with a SIGKILL to all their processes
after a random time, and started again, as often as asked. Stores must hold the same, metrics must be equal to the
last bit. Exits with 1 if they are not.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import numpy as np
import psutil

import logitstore
from distill.metrics import read_metrics

DEMO = Path(__file__).parent / "demo"
CLOCK = ("images_per_s", "data_wait")


def start(module: str, words: list[str], *, processes: int) -> subprocess.Popen[bytes]:
    """Starts a program, in one process or several."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--nnodes=1", f"--nproc_per_node={processes}"]
        command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(DEMO.parent.parent)}
    log = subprocess.DEVNULL
    return subprocess.Popen([*command, module, *words], env=env, stdout=log, stderr=log)


def killed_run(module: str, words: list[str], *, processes: int, kills: int, longest: float, seed: int) -> None:
    """Starts a program again and again, kills it after up to `longest` seconds, then lets it finish."""
    chance = random.Random(seed)
    for number in range(kills):
        process = start(module, words, processes=processes)
        seconds = chance.uniform(1, longest)
        time.sleep(seconds)
        if process.poll() is not None:
            raise SystemExit(f"{module} ended after {number} kills: take fewer, or a shorter --longest")
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        click.echo(f"  kill {number + 1} after {seconds:.1f} s")
    if start(module, words, processes=processes).wait():
        raise SystemExit(f"{module} failed when it was started again after the kills")


def store_content(path: Path) -> list[bytes]:
    """All that a store says of its views."""
    store = logitstore.open(path)
    faults = logitstore.check(path).faults
    if faults or not store.done().all():
        raise SystemExit(f"{path} is not whole: {faults}")
    rows = [store.read(epoch=epoch, rows=slice(None)) for epoch in range(store.spec.num_epochs)]
    proofs = [[store.proof(e, b) for b in range(store.spec.num_blocks)] for e in range(store.spec.num_epochs)]
    arrays = [a for r in rows for a in (r.seeds, r.indices, r.logprobs, r.tail)] + [np.array(proofs, np.uint64)]
    return [np.ascontiguousarray(array).tobytes() for array in arrays]


def metric_lines(run: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(run / "metrics.jsonl")]


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--kills", default=12, show_default=True, help="SIGKILLs for each pass.")
@click.option("--processes", default=1, show_default=True, help="Processes of each pass.")
@click.option("--longest", default=9.0, show_default=True, help="Most seconds that a killed pass runs.")
@click.option("--seed", default=0, show_default=True)
def main(work: Path, kills: int, processes: int, longest: float, seed: int) -> None:
    """Runs the proof in WORK, a folder that is emptied first."""
    shutil.rmtree(work, ignore_errors=True)
    subprocess.run([sys.executable, DEMO / "fashion_mnist.py", "unpack", work / "images"], check=True)
    pack = [sys.executable, DEMO.parent / "pack.py", work / "images" / "train", work / "data", "--workers", "1"]
    subprocess.run(pack, check=True)
    teacher = [
        f"data.path={work / 'data'}", "teacher=tiny_vit", f"teacher.weights={DEMO / 'teacher.safetensors'}",
        "view=fashion", "store.epochs=8", "store.topk=3", "store.rows_per_block=1024", "data.workers=1",
    ]  # fmt: skip
    killing = {"processes": processes, "kills": kills, "longest": longest, "seed": seed}

    click.echo("teacher pass, undisturbed by one process, then killed")
    if start("distill.save_logits", [*teacher, f"store.path={work / 'whole.zarr'}"], processes=1).wait():
        raise SystemExit("the undisturbed teacher pass failed")
    killed_run("distill.save_logits", [*teacher, f"store.path={work / 'killed.zarr'}"], **killing)
    same_store = store_content(work / "whole.zarr") == store_content(work / "killed.zarr")
    click.echo(f"stores hold the same: {same_store}")

    student = [
        f"data.path={work / 'data'}", f"store.path={work / 'whole.zarr'}", "student=tiny_vit_micro",
        "student.image_size=28", "student.drop_path=0.1", "train.batch_size=16", "train.accumulate=2",
        "train.steps=1200", "run.log_every=1", "run.save_every=20", "data.workers=1", "compute.threads=1",
    ]  # fmt: skip
    click.echo("student pass, undisturbed, then killed")
    if start("distill.train_student", [*student, f"run.dir={work / 'whole'}"], processes=processes).wait():
        raise SystemExit("the undisturbed student pass failed")
    killed_run("distill.train_student", [*student, f"run.dir={work / 'killed'}"], **killing)
    same_run = metric_lines(work / "whole") == metric_lines(work / "killed")
    click.echo(f"metrics of {len(metric_lines(work / 'whole'))} lines are equal to the last bit: {same_run}")
    sys.exit(0 if same_store and same_run else 1)


if __name__ == "__main__":
    main()
