"""Student pass: trains a TinyViT on the views and logits of a store, or, without one, on labels.

    python -m distill.train_student data.path=DATA data.val_path=VAL store.path=T.zarr student=tiny_vit_5m \\
        train.epochs=4 train.batch_size=64 run.dir=runs/a

The student sees exactly the views that the teacher saw. Without `store.path` the same loop trains on labels, on views
drawn by the `view` settings. The same command resumes a run from its newest checkpoint. SIGTERM, SIGUSR1 and
`run.time_limit` save and stop a run, with exit code 75 and a file `requeue` in `run.dir`: see docs/operations.md.
Several processes: `torchrun --nproc_per_node 8 -m distill.train_student ...` or `accelerate launch`.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import logitstore
from distill import models, provenance
from distill.config import TrainStudentConfig
from distill.config.command import Program, run_program
from distill.config.durations import time_limit_seconds
from distill.data.loader import load
from distill.errors import Stopped
from distill.files import write_file
from distill.models.weights.tensor_files import file_sha256
from distill.replay import recorded
from distill.runs import run_dir, summary
from distill.runtime import processes, trackers
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.runtime.stopping import MARKER, Stopping
from distill.student import dry_run
from distill.student.loop import Training, train
from distill.student.run_state import RunState
from distill.student.setup import StudentPass, describe, make_damage_log, make_pass, make_training, results


def main(config: TrainStudentConfig) -> None:
    assert config.data.path and config.run.dir
    began = time.monotonic()
    trackers.check(config.run.trackers)
    runtime = processes.start(
        config.compute, trackers=config.run.trackers, tracker_folder=Path(config.run.dir) / run_dir.TRACKERS
    )
    marker = Path(config.run.dir) / MARKER
    if runtime.is_main:
        marker.unlink(missing_ok=True)
    with Stopping(runtime, time_limit=time_limit_seconds(config.run.time_limit), began=began) as stopping:
        student_pass = make_pass(config, runtime)
        training = make_training(config, runtime, student_pass.num_classes)
        folder = runtime.from_main(lambda: run_dir.prepare(config))
        if (folder / run_dir.WEIGHTS).exists():
            runtime.say(f"{folder} is a finished run: its student is in {folder / run_dir.WEIGHTS}")
            runtime.finish()
            return
        run_state = RunState(
            folder, training, plan=student_pass.plan, order=student_pass.order, catalog=student_pass.catalog,
            runtime=runtime, keep=config.run.keep, began=began, identity=identity(config, student_pass),
        )  # fmt: skip
        reason = train_to_end(config, student_pass, training, run_state, runtime=runtime, stopping=stopping)
        num_steps = student_pass.plan.total_steps
        note = f"{reason}, after step {training.step} of {num_steps}. The same command continues from there"
        if runtime.is_main and reason:
            write_file(marker, note + "\n")
        elif runtime.is_main:
            finish(config, student_pass, training, run_state, runtime)
        runtime.finish()
    if reason:
        raise Stopped(note)


def train_to_end(
    config: TrainStudentConfig, student_pass: StudentPass, training: Training, run_state: RunState, *,
    runtime: Runtime, stopping: Stopping,
) -> str | None:  # fmt: skip
    """Trains from the current step on. **Returns:** the reason why it was stopped, or None at the end of the run."""
    runtime.say(describe(config, student_pass, runtime, training))
    settings = dict(run_dir.leaves(asdict(config)))
    trackers.start(
        runtime, config.run.trackers, folder=run_state.folder / run_dir.TRACKERS, settings=settings, step=training.step
    )
    plan, evaluator = student_pass.plan, student_pass.evaluator
    evaluate = (lambda: run_state.evaluate(evaluator)) if evaluator else None
    if evaluate and training.step and plan.due(training.step, plan.eval_every) and not run_state.is_evaluated():
        evaluate()  # The run ended between this step's checkpoint and its evaluation.
    indices = student_pass.order.indices(training.step, plan.total_steps)
    batches = load(
        student_pass.batches, indices, workers=config.data.workers, prefetch=config.data.prefetch, pin=runtime.pin
    )
    damage_log = make_damage_log(config, runtime)
    with Progress(
        "student pass", total=plan.total_steps, unit="steps", done=training.step, shown=runtime.is_main
    ) as progress:
        reason = train(
            training, plan, batches, runtime=runtime, damage_log=damage_log, log=run_state.log, save=run_state.save,
            evaluate=evaluate, stop=stopping.agreed, progress=progress,
        )  # fmt: skip
    if note := damage_log.summary():
        print(note, flush=True)
    return reason


def finish(
    config: TrainStudentConfig, student_pass: StudentPass, training: Training, run_state: RunState, runtime: Runtime
) -> None:
    """Writes the summary, then the weights: a run with weights is finished."""
    folder, scores = run_state.folder, run_state.scores(training.step)
    scores = {name: value for name, value in scores.items() if name not in ("step", "epoch")}
    totals = {"steps": training.step, "seconds": round(run_state.seconds, 1), **scores}
    write_file(folder / run_dir.SUMMARY, json.dumps(totals, indent=1) + "\n")
    run_state.close()
    text = describe(config, student_pass, runtime, training)
    summary.write(folder, described=text, totals=totals, best=run_state.best)
    metadata = weights_metadata(config, student_pass)
    if config.run.best_weights and (state := run_state.best_state()):
        best = copy.deepcopy(results(config, training)[run_dir.WEIGHTS])
        # The weights that were evaluated.
        best.load_state_dict(state["average" if config.eval.weights == "ema" else "model"])
        models.save_weights(best, folder / run_dir.BEST_WEIGHTS, metadata=metadata | {"step": str(state["step"])})
    nets = results(config, training)
    for name in sorted(nets, key=lambda name: name == run_dir.WEIGHTS):  # The file that ends the run comes last.
        models.save_weights(nets[name], folder / name, metadata=metadata)
    digest = file_sha256(folder / run_dir.WEIGHTS)
    write_file(folder / run_dir.SUMMARY, json.dumps({**totals, run_dir.WEIGHTS_DIGEST: digest}, indent=1) + "\n")
    if scores:
        print(f"top-1 {scores['top1']:.2f} %, top-5 {scores['top5']:.2f} % of {scores['num_images']} images")
    print(f"{folder / run_dir.WEIGHTS} written", flush=True)


def identity(config: TrainStudentConfig, student_pass: StudentPass) -> dict[str, str]:
    """Digests of what decides a run's steps beside its data."""
    store = student_pass.replay.store if student_pass.replay else None
    return {
        "configuration": run_dir.settings_digest(config),
        "store": logitstore.spec_digest(store.spec).hex() if store else "",
    }


def weights_metadata(config: TrainStudentConfig, student_pass: StudentPass) -> dict[str, str]:
    """The header of weights files: input, evaluation view, classes and provenance, as JSON."""
    store = student_pass.replay.store if student_pass.replay else None
    class_names = recorded.class_names(store) if store else list(student_pass.catalog.class_names)
    metadata: dict[str, Any] = {
        "mean": config.student.mean,
        "std": config.student.std,
        "crop": 1.0 if config.eval.full else config.eval.crop,
        "interpolation": config.eval.interpolation,
        "provenance": provenance.student_record(student_pass.catalog, store),
    }
    if class_names:
        metadata["class_names"] = class_names
    return {name: json.dumps(value) for name, value in metadata.items()}


PROGRAM = Program(main, "train_student", schema=TrainStudentConfig, about=__doc__, dry_run=dry_run.dry_run)

if __name__ == "__main__":
    run_program(PROGRAM)
