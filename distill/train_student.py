"""Student pass: trains a TinyViT on the views and logits of a store, or, without one, on labels.

    python -m distill.train_student data.path=DATA data.val_path=VAL store.path=T.zarr student=tiny_vit_5m \\
        train.epochs=4 train.batch_size=64 run.dir=runs/a

The student sees exactly the pictures the teacher saw. Without `store.path` the same loop trains on labels, on views
drawn from the `view` settings. The same command started again goes on from the newest checkpoint. Several processes:
`torchrun --nproc_per_node 8 -m distill.train_student ...` or `accelerate launch`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import distill.command
import models
from distill import provenance, run_folder, runtime
from distill.checkpoint import load_newest, save_checkpoint
from distill.config import TrainStudentConfig
from distill.data.catalog import Catalog
from distill.data.loader import load
from distill.data.order import Order
from distill.errors import DistillError
from distill.loop import Plan, Training, train
from distill.metrics import MetricLog
from distill.progress import Progress
from distill.replay import Replay, open_replay
from distill.runtime import Runtime
from distill.student_pass import (
    classes_of_labels,
    make_batches,
    make_evaluator,
    make_order,
    make_plan,
    make_records,
    make_training,
    results,
)


def main(config: TrainStudentConfig) -> None:
    assert config.data.path and config.run.dir
    began = time.monotonic()
    catalog = provenance.catalog(config.data, config.data.path)
    process = runtime.start(config.compute)
    replay = open_replay(config.store, catalog) if config.store.path else None
    num_classes = replay.store.spec.num_classes if replay else classes_of_labels(catalog)
    evaluator = make_evaluator(config, process, num_classes)
    order = make_order(config, catalog, process, replay)
    plan = make_plan(config, order, process)
    dataset = make_batches(config, catalog, order, process, replay)

    folder = run_folder.prepare(config) if process.is_main else Path(config.run.dir)
    process.accelerator.wait_for_everyone()
    if (folder / run_folder.WEIGHTS).exists():
        process.say(f"{folder} is a finished run: its student is in {folder / run_folder.WEIGHTS}")
        process.finish()
        return
    training = make_training(config, process, num_classes)
    if state := load_newest(folder / run_folder.CHECKPOINTS):
        check_same_data(state, catalog, folder)
        training.restore(state, process)
        began -= state["seconds"]
        process.say(f"going on from step {training.step}")
    process.say(describe(config, plan, order, process, replay, training))

    indices = order.indices(training.step, plan.total_steps)
    batches = load(dataset, indices, workers=config.data.workers, prefetch=config.data.prefetch, pin=process.pin)
    records = make_records(config, process, digests=config.data.digests)
    metrics = MetricLog(folder / run_folder.METRICS, resume_step=training.step) if process.is_main else None
    scores: dict[str, Any] = {}

    def evaluate() -> dict[str, Any]:
        scores.update(evaluator(training) if evaluator else {})
        return dict(scores)

    def save() -> None:
        if process.is_main:
            about = {"fingerprint": catalog.fingerprint, "seconds": time.monotonic() - began}
            state = training.state(process) | about
            save_checkpoint(folder / run_folder.CHECKPOINTS, state, step=training.step, keep=config.run.keep)
        process.accelerator.wait_for_everyone()

    with Progress(
        "student pass", total=plan.total_steps, unit="steps", done=training.step, shown=process.is_main
    ) as progress:
        train(
            training, plan, batches, runtime=process, records=records, log=metrics.write if metrics else ignore,
            save=save, evaluate=evaluate, progress=progress,
        )  # fmt: skip
    if note := records.summary():
        print(note, flush=True)
    if not scores:  # Killed between its last checkpoint and its end.
        evaluate()
    if process.is_main:
        finish(config, folder, training, catalog, replay, scores, seconds=time.monotonic() - began)
    process.finish()


def describe(
    config: TrainStudentConfig, plan: Plan, order: Order, process: Runtime, replay: Replay | None, training: Training
) -> str:
    """What is about to happen, in a few lines."""
    source = "labels"
    if replay:
        spec = replay.store.spec
        source = (
            f"{replay.store.path}: top {spec.topk} of {spec.num_classes} classes, {len(replay.epochs)} stored epochs"
        )
    return (
        f"{config.student.name}: {models.count_params(training.net) / 1e6:.2f} M parameters at "
        f"{config.student.image_size} px, from {source}\n"
        f"{plan.total_steps} steps of {order.step_rows} rows ({order.batch_size} x {process.world} processes x "
        f"{order.accumulate} accumulated), {plan.steps_per_epoch} steps an epoch of {order.num_rows} rows; "
        f"peak learning rate {plan.schedule.peak:.3g}"
    )


def finish(
    config: TrainStudentConfig, folder: Path, training: Training, catalog: Catalog, replay: Replay | None,
    scores: dict[str, Any], *, seconds: float,
) -> None:  # fmt: skip
    """Writes the trained weights and the summary."""
    names = replay.store.spec.teacher.get("class_names") if replay else list(catalog.class_names)
    metadata = {
        "mean": json.dumps(config.student.mean),
        "std": json.dumps(config.student.std),
        "crop": json.dumps(1.0 if config.eval.full else config.eval.crop),
        "interpolation": json.dumps(config.eval.interpolation),
        "provenance": json.dumps(provenance.student(catalog, replay.store if replay else None)),
    }
    if names:
        metadata["class_names"] = json.dumps(names)
    for name, net in results(config, training).items():
        models.save_weights(net, folder / name, metadata=metadata)
    summary = {"steps": training.step, "seconds": round(seconds, 1), **scores}
    (folder / run_folder.SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    if scores:
        print(f"top-1 {scores['top1']:.2f} %, top-5 {scores['top5']:.2f} % of {scores['num_images']} images")
    print(f"{folder / run_folder.WEIGHTS} written", flush=True)


def check_same_data(state: dict[str, Any], catalog: Catalog, folder: Path) -> None:
    if state["fingerprint"] != catalog.fingerprint:
        raise DistillError(
            f"the run in {folder} was trained on other data than {catalog.where}: fingerprint {state['fingerprint']} "
            f"there, {catalog.fingerprint} here"
        )


def ignore(values: dict[str, Any]) -> None:
    """The log of every process but the first."""


if __name__ == "__main__":
    distill.command.run(main, name="train_student", schema=TrainStudentConfig, about=__doc__)
