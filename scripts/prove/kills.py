"""Proof that nothing is lost: passes killed at random points against the same passes undisturbed.

    python scripts/prove/kills.py runs/kills --kills 20 --stops 4 --processes 2

A teacher pass over mixed views (mixup and cutmix) of the embedded images, and a student pass from its store with EMA,
gradient accumulation, drop path, evaluations and a loader process, run once undisturbed. Then each runs again: at
random points (blocks committed, steps done) all its processes get a SIGKILL, or, for a stop, its launcher a SIGTERM,
and it is started again. Stores must hold the same. Metrics, the last checkpoint (weights, EMA, moments of the
optimiser) and the weights written at the end must be equal to the last bit. Exits with 1 if they are not.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
import torch
from safetensors.torch import load_file

import logitstore
from distill.runs.checkpoint import list_checkpoints, load_checkpoint
from distill.runs.metric_log import read_metrics
from distill.runtime.stopping import MARKER

DEMO = Path(__file__).parents[1] / "demo"
TIMINGS = ("images_per_s", "data_wait")
STEPS, EPOCHS, BLOCKS = 300, 8, 48


def start(module: str, arguments: list[str], *, processes: int) -> subprocess.Popen[bytes]:
    """Starts a program, in one process or several."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--nnodes=1", f"--nproc_per_node={processes}"]
        command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(DEMO.parent.parent)}
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, module, *arguments], env=env, stdout=quiet, stderr=quiet)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGKILL to a program and all its processes."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


def disturbed_run(
    module: str, arguments: list[str], *, processes: int, total: int, done: Callable[[], int], marker: Path, kills: int,
    stops: int, seed: int,
) -> None:  # fmt: skip
    """Starts a program many times and ends it at random points of its work; then lets it finish.

    **Arguments:** `done`: counts the finished units of `total`; `marker`: the file that a stop in good order leaves.
    """
    rng = random.Random(seed)
    points = sorted(rng.sample(range(1, total), kills + stops))
    stop_points = set(rng.sample(points, stops))
    for number, point in enumerate(points, 1):
        process = start(module, arguments, processes=processes)
        while done() < point and process.poll() is None:
            time.sleep(0.005)
        if process.poll() is not None:
            raise SystemExit(f"{module} ended before point {point}, or could not be started")
        reached = done()
        if point in stop_points:
            process.terminate()
            process.wait()
            if not marker.exists():
                raise SystemExit(f"{module} got a SIGTERM at {reached} of {total} and left no {marker}")
        else:
            kill(process)
        click.echo(f"  {number}: {'SIGTERM' if point in stop_points else 'SIGKILL'} at {reached} of {total}")
    if start(module, arguments, processes=processes).wait():
        raise SystemExit(f"{module} failed when it was started again after the kills")


def blocks_done(store: Path) -> int:
    """Number of committed blocks."""
    try:
        return int(logitstore.open(store).done().sum())
    except (logitstore.StoreError, OSError):
        return 0


def steps_done(run: Path) -> int:
    """The last step of a run that is in its metrics."""
    path = run / "metrics.jsonl"
    return sum('"lr"' in line for line in path.read_text().splitlines()) if path.exists() else 0


def store_content(path: Path) -> list[bytes]:
    """The bytes of everything that a store holds of its views."""
    store = logitstore.open(path)
    faults = logitstore.check(path).faults
    if faults or not store.done().all():
        raise SystemExit(f"{path} is not complete: {faults}")
    rows = [store.read(epoch=epoch, rows=slice(None)) for epoch in range(store.spec.num_epochs)]
    proofs = [[store.proof(e, b) for b in range(store.spec.num_blocks)] for e in range(store.spec.num_epochs)]
    arrays = [array for part in rows for array in (part.seeds, part.indices, part.logprobs, part.tail)]
    arrays.append(np.array(proofs, np.uint64))
    return [np.ascontiguousarray(array).tobytes() for array in arrays]


def metric_lines(run: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in read_metrics(run / "metrics.jsonl")]


def run_content(run: Path) -> dict[str, bytes]:
    """The bytes of every tensor of a run's last checkpoint and of the weights it wrote, by name."""
    last = load_checkpoint(list_checkpoints(run / "checkpoints")[-1])
    by_name = dict(tensors(last))
    for path in sorted(run.glob("*.safetensors")):
        by_name |= {f"{path.name}.{name}": tensor for name, tensor in load_file(path).items()}
    return {name: tensor.numpy().tobytes() for name, tensor in by_name.items()}


def tensors(tree: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a nested state, with dotted names."""
    if isinstance(tree, torch.Tensor):
        yield prefix, tree
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in items:
        yield from tensors(value, f"{prefix}.{name}")


def teacher_arguments(work: Path, store: Path) -> list[str]:
    return [
        f"data.path={work / 'train'}", "teacher=tiny_vit", f"teacher.weights={DEMO / 'teacher.safetensors'}",
        "view=fashion", "+view.mix={mixup_alpha:0.8,cutmix_alpha:1.0,group_size:64}", f"store.epochs={EPOCHS}",
        "store.topk=3", "store.rows_per_block=1024", "data.workers=1", "compute.threads=1", f"store.path={store}",
    ]  # fmt: skip


def student_arguments(work: Path, run: Path) -> list[str]:
    return [
        f"data.path={work / 'train'}", f"data.val_path={work / 'val'}", f"store.path={work / 'whole.zarr'}",
        "student=tiny_vit_micro", "student.image_size=28", "student.dims=[16,32,48,64]", "student.heads=[1,1,1,2]",
        "student.drop_path=0.1", "train.batch_size=16", "train.accumulate=2", "train.ema_decay=0.99",
        f"train.steps={STEPS}", "run.log_every=1", "run.save_every=10", "run.best_weights=true", "data.workers=1",
        "compute.threads=1", f"run.dir={run}",
    ]  # fmt: skip


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--kills", default=20, show_default=True, help="SIGKILLs during each pass.")
@click.option("--stops", default=4, show_default=True, help="SIGTERMs during each pass, beside the kills.")
@click.option("--processes", default=2, show_default=True, help="Processes of each disturbed pass.")
@click.option("--seed", default=0, show_default=True, help="Of the random points.")
def main(work: Path, kills: int, stops: int, processes: int, seed: int) -> None:
    """Runs the proof in WORK, a folder that is emptied first."""
    shutil.rmtree(work, ignore_errors=True)
    subprocess.run([sys.executable, str(DEMO / "fashion_mnist.py"), "unpack", str(work / "images")], check=True)
    for split in ("train", "val"):
        images, packed = str(work / "images" / split), str(work / split)
        if start("distill.pack", [images, packed, "--workers", "1"], processes=1).wait():
            raise SystemExit("packing failed")
    disturbances = {"processes": processes, "kills": kills, "stops": stops, "seed": seed}

    click.echo("teacher pass, undisturbed, one process: the store of the student passes")
    if start("distill.save_logits", teacher_arguments(work, work / "whole.zarr"), processes=1).wait():
        raise SystemExit("the undisturbed teacher pass failed")
    click.echo("student pass, undisturbed, then disturbed")
    if start("distill.train_student", student_arguments(work, work / "whole"), processes=processes).wait():
        raise SystemExit("the undisturbed student pass failed")
    run = work / "disturbed"
    disturbed_run(
        "distill.train_student", student_arguments(work, run), total=STEPS, done=lambda: steps_done(run),
        marker=run / MARKER, **disturbances,
    )  # fmt: skip
    same_metrics = metric_lines(work / "whole") == metric_lines(run)
    click.echo(f"metrics of {len(metric_lines(work / 'whole'))} lines are equal to the last bit: {same_metrics}")
    contents = run_content(work / "whole"), run_content(run)
    same_tensors = contents[0] == contents[1]
    click.echo(f"{len(contents[0])} tensors of the last checkpoint and of the weights are equal: {same_tensors}")

    click.echo("teacher pass, disturbed")
    store = work / "disturbed.zarr"
    disturbed_run(
        "distill.save_logits", teacher_arguments(work, store), total=BLOCKS, done=lambda: blocks_done(store),
        marker=work / f"disturbed.zarr.{MARKER}", **disturbances,
    )  # fmt: skip
    same_store = store_content(work / "whole.zarr") == store_content(store)
    click.echo(f"stores hold the same: {same_store}")
    sys.exit(0 if same_store and same_metrics and same_tensors else 1)


if __name__ == "__main__":
    main()
