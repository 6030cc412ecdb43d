"""What one process of several does in `test_many_processes`: a few trainings, one after another, and what came out.

torchrun --nproc_per_node P -m tests.distill.many_processes DATA STORE OUT
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

import distill.data.shards
from distill import inputs
from distill.config import TrainStudentConfig, command
from distill.data.loader import load
from distill.replay.open_store import open_replay
from distill.runtime import processes
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.student import loop, setup
from distill.student.evaluator import make_evaluator
from tests.programs import student_arguments

# Settings beside those of `student_arguments`. Every global batch is the same whatever the number of processes.
CASES: dict[str, tuple[str, ...]] = {
    "sync": ("train.global_batch=24", "train.batchnorm=sync", "train.steps=3", "train.ema_decay=0.5"),
    "frozen": ("train.global_batch=48", "train.batchnorm=frozen", "train.steps=2", "data.damaged=skip"),
    "partial": (
        "train.global_batch=48",
        "train.batchnorm=sync",
        "train.partial_step=true",
        "train.epochs=1",
        "train.grad_checkpoint=true",
    ),
}
PART_ROWS = 24
"""Rows of a micro-batch over all processes."""
DAMAGED = (3, 40, 41, 77)


def main(data: Path, store: Path, out: Path) -> None:
    config = settings("sync", data, store, out, world=1)
    runtime = processes.start(config.compute)
    found = {"world": runtime.world} | {
        name: train(settings(name, data, store, out, world=runtime.world), runtime, damaged=name == "frozen")
        for name in CASES
    }
    if runtime.is_main:
        torch.save(found, out)
    runtime.finish()


def settings(case: str, data: Path, store: Path, out: Path, *, world: int) -> TrainStudentConfig:
    words = student_arguments(
        data, out.parent / f"{case}{world}", *CASES[case], f"train.batch_size={PART_ROWS // world}",
        f"data.val_path={data}", "optim.clip_grad=null", "optim.base_batch=512", "optim.lr=0.05",
        "optim.warmup_epochs=0", "optim.eps=1e-3", *([f"store.path={store}"] if case == "sync" else []),
    )  # fmt: skip
    return command.load("train_student", TrainStudentConfig, words)


def train(config: TrainStudentConfig, runtime: Runtime, *, damaged: bool) -> dict[str, Any]:
    """Trains, and returns losses, the first step's gradients, weights, scores and the number of reductions per step."""
    assert config.data.path and config.run.dir
    Path(config.run.dir).mkdir(exist_ok=True)
    catalog = inputs.open_catalog(config.data, config.data.path)
    replay = open_replay(config.store, catalog) if config.store.path else None
    num_classes = replay.store.spec.num_classes if replay else 3
    order = setup.make_order(config, catalog, runtime, replay)
    plan = setup.make_plan(config, order, runtime, replay)
    training = setup.make_training(config, runtime, num_classes)
    damage_log = setup.make_damage_log(config, runtime)
    evaluator = make_evaluator(config, runtime, num_classes, normalise=plan.normalise, damage_log=damage_log)
    assert evaluator
    reductions = count_reductions(training)
    gradients: list[dict[str, torch.Tensor]] = []
    training.optimizer.optimizer.register_step_pre_hook(
        lambda *_: gradients.append(
            {name: p.grad.clone() for name, p in training.net.named_parameters() if p.grad is not None}
        )
    )
    lines: list[dict[str, Any]] = []
    dataset = setup.make_batches(config, catalog, order, runtime, replay)
    with unreadable(DAMAGED if damaged else ()):
        loop.train(
            training, plan, load(dataset, order.indices(0, plan.total_steps), workers=0), runtime=runtime,
            damage_log=damage_log, log=lines.append, save=lambda: None,
            evaluate=None, stop=lambda: None, progress=Progress("", total=1, unit="", shown=False),
        )  # fmt: skip
    return {
        "losses": [line["loss"] for line in lines],
        "peak": plan.schedule.peak,
        "accumulate": order.accumulate,
        "parts": sum(map(order.micro_batches_of, range(plan.total_steps))),
        "rows": sum(map(order.rows_of, range(plan.total_steps))),
        "gradients": gradients[0],
        "weights": {name: tensor.clone() for name, tensor in training.net.state_dict().items()},
        "average": training.ema.state_dict() if training.ema else None,
        "reductions": len(reductions) / plan.total_steps,
        "parameters": len(gradients[0]),
        "scores": evaluator(training),
    }


def count_reductions(training: loop.Training) -> list[int]:
    """Gets an entry for every bucket of gradients that is reduced."""
    reductions: list[int] = []
    if isinstance(training.model, DistributedDataParallel):

        def counted(group: Any, bucket: torch._C._distributed_c10d.GradBucket) -> torch.futures.Future[torch.Tensor]:
            reductions.append(bucket.index())
            return allreduce_hook(group, bucket)

        training.model.register_comm_hook(None, counted)
    return reductions


@contextmanager
def unreadable(rows: tuple[int, ...]) -> Iterator[None]:
    """While it lasts, the images of these rows cannot be read."""
    read = distill.data.shards.ShardReader.read
    distill.data.shards.ShardReader.read = (  # type: ignore[method-assign]
        lambda self, row: read(self, row)[:40] if row in rows else read(self, row)
    )
    try:
        yield
    finally:
        distill.data.shards.ShardReader.read = read  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
