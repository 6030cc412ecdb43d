"""The brief training of a candidate and its score: the student pass on the training rows of the search, in one process.

Data, order, views and loop are those of `train_student`; only the student differs from candidate to candidate.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill import inputs, models, provenance
from distill.config import ContractConfig, RunConfig, StudentConfig, TrainStudentConfig
from distill.contraction.held_out import HeldOutViews, Split, score, split_rows
from distill.contraction.search_dir import Candidate, TrainedCandidate
from distill.data.loader import load
from distill.errors import DistillError, LossNotFinite, Stopped
from distill.models import TinyViTConfig
from distill.replay import recorded
from distill.replay.open_store import open_replay
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.student import setup
from distill.student.loop import Training, train
from distill.student.setup import StudentPass

_DIVERGED = {"loss": math.inf, "agreement": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTraining:
    """What the training of all candidates has in common."""

    contract: ContractConfig
    settings: TrainStudentConfig
    """Of a candidate's student pass, except `student`."""
    work: StudentPass
    held_out: HeldOutViews
    split: Split
    runtime: Runtime

    @property
    def num_classes(self) -> int:
        return self.work.num_classes


def make_candidate_training(config: ContractConfig, runtime: Runtime) -> CandidateTraining:
    """Opens data and store, and divides the rows into those to train on and held-out ones."""
    assert config.data.path
    catalog = inputs.open_catalog(config.data, config.data.path)
    replay = open_replay(config.store, catalog)
    mix = replay.spec.mix
    split = split_rows(
        config.data.rows or len(catalog), fraction=config.search.hold_out, group_size=mix.group_size if mix else 1
    )
    settings = TrainStudentConfig(
        data=replace(config.data, rows=split.train, val_path=None), store=config.store, student=config.student,
        loss=config.loss, optim=config.optim, train=config.train, compute=config.compute,
        run=RunConfig(dir=config.run.dir, log_every=1_000_000),
    )  # fmt: skip
    order = setup.make_order(settings, catalog, runtime, replay)
    work = StudentPass(
        catalog=catalog, replay=replay, num_classes=replay.store.spec.num_classes, evaluator=None, order=order,
        plan=setup.make_plan(settings, order, runtime, replay),
        batches=setup.make_batches(settings, catalog, order, runtime, replay),
    )  # fmt: skip
    held_out = HeldOutViews(catalog, replay, size=config.student.image_size)
    return CandidateTraining(
        contract=config, settings=settings, work=work, held_out=held_out, split=split, runtime=runtime
    )


def train_candidate(
    training: CandidateTraining, candidate: Candidate, *, init: Path | None, weights: Path,
    stop: Callable[[], str | None],
) -> TrainedCandidate:  # fmt: skip
    """Trains a candidate, scores it on the held-out rows and writes its weights.

    **Arguments:** `init`: file of initial weights; None: the initial architecture takes those of `student.init`, others
    draw theirs from `train.seed`. `weights`: file to write. `stop`: asked at every step for a reason to stop.

    **Returns** the scores; the loss of a candidate that diverged is infinite.

    **Raises:** `Stopped` where `stop` gave a reason: nothing is written then. `LossNotFinite` where the initial
    architecture diverges. `DistillError` names the candidate.
    """
    began, is_initial = time.monotonic(), candidate.parent is None
    student = student_of(training.contract, candidate.config, init=init, is_initial=is_initial)
    config = replace(training.settings, student=student)
    steps = training.contract.search.seed_steps if is_initial else None
    if steps:
        config = replace(config, train=replace(config.train, steps=steps))
    student_training = setup.make_training(config, training.runtime, training.num_classes)
    try:
        if steps != 0:
            _train(training, config, student_training, stop=stop)
        scores = _score(training, config, student_training)
    except LossNotFinite as error:
        if is_initial:
            raise LossNotFinite(f"candidate {candidate.name}: {error}") from None
        scores = _DIVERGED
    except DistillError as error:
        raise DistillError(f"candidate {candidate.name}: {error}") from None
    models.save_weights(student_training.net, weights, metadata=_metadata(training))
    seconds = round(time.monotonic() - began, 2)
    return TrainedCandidate(candidate=candidate, steps=student_training.step, seconds=seconds, **scores)


def student_of(
    config: ContractConfig, architecture: TinyViTConfig, *, init: Path | None = None, is_initial: bool = False
) -> StudentConfig:
    """The `student` settings of an architecture."""
    dimensions: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in architecture.to_json().items()
        if name not in ("num_classes", "image_size", "drop_path")
    }
    if is_initial:
        return replace(config.student, name="tiny_vit", **dimensions)
    return replace(
        config.student, name="tiny_vit", init=str(init) if init else None, init_classes="same", init_windows="same",
        **dimensions,
    )  # fmt: skip


def _train(
    training: CandidateTraining, config: TrainStudentConfig, student_training: Training, *,
    stop: Callable[[], str | None],
) -> None:  # fmt: skip
    work = training.work
    plan = setup.make_plan(config, work.order, training.runtime, work.replay)
    plan = replace(plan, log_every=0, save_every=0)  # Candidates write weights at their end and no checkpoints.
    batches = load(
        work.batches, work.order.indices(0, plan.total_steps), workers=config.data.workers,
        prefetch=config.data.prefetch, pin=training.runtime.pin,
    )  # fmt: skip
    reason = train(
        student_training, plan, batches, runtime=training.runtime,
        damage_log=setup.make_damage_log(config, training.runtime), log=lambda values: None,
        save=lambda: None, evaluate=None, stop=stop,
        progress=Progress("candidate", total=plan.total_steps, unit="steps", shown=False),
    )  # fmt: skip
    if reason:
        raise Stopped(f"{reason}. The same command goes on with the candidates that are not finished")


def _score(training: CandidateTraining, config: TrainStudentConfig, student_training: Training) -> dict[str, float]:
    replay = training.work.replay
    assert replay is not None
    scores = score(
        student_training.net, training.held_out, training.split,
        epochs=replay.epochs[: training.contract.search.hold_out_views], batch_size=config.train.batch_size,
        workers=config.data.workers, plan=training.work.plan,
        damage_log=setup.make_damage_log(config, training.runtime), runtime=training.runtime,
    )  # fmt: skip
    if not math.isfinite(scores["loss"]):  # The last step can break the weights after the last training loss.
        raise LossNotFinite(f"its loss on the held-out rows is {scores['loss']}. Try a lower optim.lr")
    return scores


def _metadata(training: CandidateTraining) -> dict[str, str]:
    """The metadata of a candidate's weights file."""
    replay, student = training.work.replay, training.contract.student
    assert replay is not None
    metadata: dict[str, Any] = {"mean": student.mean, "std": student.std}
    metadata["provenance"] = provenance.student_record(training.work.catalog, replay.store)
    if names := recorded.class_names(replay.store):
        metadata["class_names"] = names
    return {name: json.dumps(value) for name, value in metadata.items()}
