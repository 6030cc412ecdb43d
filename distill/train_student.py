"""Student pass: trains a TinyViT on the views and logits of a store, or, without one, on labels.

    python -m distill.train_student data.path=DATA data.val_path=VAL store.path=T.zarr student=tiny_vit_5m \\
        train.epochs=4 train.batch_size=64 run.dir=runs/a

The student sees exactly the pictures the teacher saw. Without `store.path` the same loop trains on labels, on views
drawn from the `view` settings. The same command started again goes on from the newest checkpoint. SIGTERM, SIGUSR1 and
`run.time_limit` save and stop it, with exit code 75 and a file `requeue` in `run.dir`: see docs/operations.md. Several
processes: `torchrun --nproc_per_node 8 -m distill.train_student ...` or `accelerate launch`.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill import models, provenance
from distill.config import TrainStudentConfig
from distill.config.command import Program, run_program
from distill.config.durations import time_limit_seconds
from distill.data.loader import load
from distill.errors import Stopped
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
        work = make_pass(config, runtime)
        training = make_training(config, runtime, work.num_classes)
        folder = runtime.from_main(lambda: run_dir.prepare(config))
        if (folder / run_dir.WEIGHTS).exists():
            runtime.say(f"{folder} is a finished run: its student is in {folder / run_dir.WEIGHTS}")
            runtime.finish()
            return
        journal = RunState(
            folder, training, plan=work.plan, order=work.order, catalog=work.catalog, runtime=runtime,
            keep=config.run.keep, began=began,
        )  # fmt: skip
        reason = train_to_end(config, work, training, journal, runtime=runtime, stopping=stopping)
        how = f"{reason}, after step {training.step} of {work.plan.total_steps}. The same command goes on from there"
        if runtime.is_main and reason:
            marker.write_text(how + "\n")
        elif runtime.is_main:
            finish(config, work, training, journal, runtime)
        runtime.finish()
    if reason:
        raise Stopped(how)


def train_to_end(
    config: TrainStudentConfig, work: StudentPass, training: Training, journal: RunState, *, runtime: Runtime,
    stopping: Stopping,
) -> str | None:  # fmt: skip
    """Trains from where the run stands. **Returns:** why it was stopped, or None at its end."""
    runtime.say(describe(config, work, runtime, training))
    settings = dict(run_dir.leaves(asdict(config)))
    trackers.start(
        runtime, config.run.trackers, folder=journal.folder / run_dir.TRACKERS, settings=settings, step=training.step
    )
    plan, evaluator = work.plan, work.evaluator
    evaluate = (lambda: journal.evaluate(evaluator)) if evaluator else None
    if evaluate and training.step and plan.due(training.step, plan.eval_every) and not journal.is_evaluated():
        evaluate()  # It was stopped or killed before that was done.
    indices = work.order.indices(training.step, plan.total_steps)
    batches = load(work.batches, indices, workers=config.data.workers, prefetch=config.data.prefetch, pin=runtime.pin)
    damage_log = make_damage_log(config, runtime)
    with Progress(
        "student pass", total=plan.total_steps, unit="steps", done=training.step, shown=runtime.is_main
    ) as progress:
        reason = train(
            training, plan, batches, runtime=runtime, damage_log=damage_log, log=journal.log, save=journal.save,
            evaluate=evaluate, stop=stopping.agreed, progress=progress,
        )  # fmt: skip
    if note := damage_log.summary():
        print(note, flush=True)
    return reason


def finish(
    config: TrainStudentConfig, work: StudentPass, training: Training, journal: RunState, runtime: Runtime
) -> None:
    """Writes the summary and the trained weights, these last: where they are, a run is finished."""
    folder, scores = journal.folder, journal.scores(training.step)
    scores = {name: value for name, value in scores.items() if name not in ("step", "epoch")}
    totals = {"steps": training.step, "seconds": round(journal.seconds, 1), **scores}
    (folder / run_dir.SUMMARY).write_text(json.dumps(totals, indent=1) + "\n")
    journal.close()
    summary.write(folder, described=describe(config, work, runtime, training), totals=totals, best=journal.best)
    about = metadata(config, work)
    if config.run.best_weights and (state := journal.best_state()):
        # Those that top-1 was measured of.
        best = copy.deepcopy(results(config, training)[run_dir.WEIGHTS])
        best.load_state_dict(state["average" if config.eval.weights == "ema" else "model"])
        models.save_weights(best, folder / run_dir.BEST_WEIGHTS, metadata=about | {"step": str(state["step"])})
    for name, net in results(config, training).items():
        models.save_weights(net, folder / name, metadata=about)
    if scores:
        print(f"top-1 {scores['top1']:.2f} %, top-5 {scores['top5']:.2f} % of {scores['num_images']} images")
    print(f"{folder / run_dir.WEIGHTS} written", flush=True)


def metadata(config: TrainStudentConfig, work: StudentPass) -> dict[str, str]:
    """What the files of weights say of themselves."""
    names = work.replay.store.spec.teacher.get("class_names") if work.replay else list(work.catalog.class_names)
    about: dict[str, Any] = {
        "mean": config.student.mean,
        "std": config.student.std,
        "crop": 1.0 if config.eval.full else config.eval.crop,
        "interpolation": config.eval.interpolation,
        "provenance": provenance.student_record(work.catalog, work.replay.store if work.replay else None),
    }
    if names:
        about["class_names"] = names
    return {name: json.dumps(value) for name, value in about.items()}


PROGRAM = Program(main, "train_student", schema=TrainStudentConfig, about=__doc__, dry_run=dry_run.dry_run)

if __name__ == "__main__":
    run_program(PROGRAM)
