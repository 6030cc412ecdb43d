"""The brief training of a candidate and its score: the student pass on a part of the rows, in one process.

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
from distill.contraction.held_out import HeldOut, Split, score, split_rows
from distill.contraction.search_dir import Candidate, Trained
from distill.data.loader import load
from distill.errors import DistillError, LossNotFinite, Stopped
from distill.models import TinyViTConfig
from distill.replay.open_store import open_replay
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.student import setup
from distill.student.loop import Training, train
from distill.student.setup import StudentPass

_DIVERGED = {"loss": math.inf, "agreement": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """What all candidates share."""

    contract: ContractConfig
    settings: TrainStudentConfig
    """A candidate's, but for the student."""
    work: StudentPass
    held_out: HeldOut
    split: Split
    runtime: Runtime

    @property
    def num_classes(self) -> int:
        return self.work.num_classes


def make_proxy(config: ContractConfig, runtime: Runtime) -> Proxy:
    """Opens data and store, and divides the rows into those to train on and those to rank by."""
    assert config.data.path
    catalog = inputs.open_catalog(config.data, config.data.path)
    replay = open_replay(config.store, catalog)
    mix = replay.spec.mix
    split = split_rows(
        config.data.rows or len(catalog), part=config.search.hold_out, group_size=mix.group_size if mix else 1
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
    held_out = HeldOut(catalog, replay, size=config.student.image_size)
    return Proxy(contract=config, settings=settings, work=work, held_out=held_out, split=split, runtime=runtime)


def train_candidate(
    proxy: Proxy, candidate: Candidate, *, init: Path | None, weights: Path, stop: Callable[[], str | None]
) -> Trained:
    """Trains a candidate, scores it on the held-out rows and writes its weights.

    **Arguments:** `init`: weights that it begins with; None: the architecture that the search starts from begins as
    `student.init` says, others with weights drawn from `train.seed`. `weights`: file to write.

    **Returns** what came of it; one that diverged has an infinite loss.

    **Raises:** `Stopped` when asked to stop: nothing is written then. `LossNotFinite` where the architecture that the
    search starts from diverges. `DistillError` names the candidate.
    """
    began, is_seed = time.monotonic(), candidate.parent is None
    config = replace(proxy.settings, student=student_of(proxy.contract, candidate.config, init=init, is_seed=is_seed))
    steps = proxy.contract.search.seed_steps if is_seed else None
    if steps:
        config = replace(config, train=replace(config.train, steps=steps))
    training = setup.make_training(config, proxy.runtime, proxy.num_classes)
    try:
        if steps != 0:
            _train(proxy, config, training, stop=stop)
        scores = _score(proxy, config, training)
    except LossNotFinite as error:
        if is_seed:
            raise LossNotFinite(f"candidate {candidate.name}: {error}") from None
        scores = _DIVERGED
    except DistillError as error:
        raise DistillError(f"candidate {candidate.name}: {error}") from None
    models.save_weights(training.net, weights, metadata=_about(proxy))
    seconds = round(time.monotonic() - began, 2)
    return Trained(candidate=candidate, steps=training.step, seconds=seconds, **scores)


def student_of(
    config: ContractConfig, architecture: TinyViTConfig, *, init: Path | None = None, is_seed: bool = False
) -> StudentConfig:
    """The `student` settings of an architecture."""
    dimensions: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in architecture.to_json().items()
        if name not in ("num_classes", "image_size", "drop_path")
    }
    if is_seed:
        return replace(config.student, name="tiny_vit", **dimensions)
    return replace(
        config.student, name="tiny_vit", init=str(init) if init else None, init_classes="same", init_windows="same",
        **dimensions,
    )  # fmt: skip


def _train(proxy: Proxy, config: TrainStudentConfig, training: Training, *, stop: Callable[[], str | None]) -> None:
    work = proxy.work
    plan = setup.make_plan(config, work.order, proxy.runtime, work.replay)
    plan = replace(plan, log_every=0, save_every=0)  # At the end only: candidates leave no checkpoints.
    batches = load(
        work.batches, work.order.indices(0, plan.total_steps), workers=config.data.workers,
        prefetch=config.data.prefetch, pin=proxy.runtime.pin,
    )  # fmt: skip
    reason = train(
        training, plan, batches, runtime=proxy.runtime,
        damage_log=setup.make_damage_log(config, proxy.runtime, digests=None), log=lambda values: None,
        save=lambda: None, evaluate=None, stop=stop,
        progress=Progress("candidate", total=plan.total_steps, unit="steps", shown=False),
    )  # fmt: skip
    if reason:
        raise Stopped(f"{reason}. The same command goes on with the candidates that are not finished")


def _score(proxy: Proxy, config: TrainStudentConfig, training: Training) -> dict[str, float]:
    replay = proxy.work.replay
    assert replay is not None
    scores = score(
        training.net, proxy.held_out, proxy.split, epochs=replay.epochs[: proxy.contract.search.hold_out_views],
        batch_size=config.train.batch_size, workers=config.data.workers, plan=proxy.work.plan,
        damage_log=setup.make_damage_log(config, proxy.runtime, digests=None), runtime=proxy.runtime,
    )  # fmt: skip
    if not math.isfinite(scores["loss"]):  # The last step can harm what no loss has seen.
        raise LossNotFinite(f"its loss on the held-out rows is {scores['loss']}. Try a lower optim.lr")
    return scores


def _about(proxy: Proxy) -> dict[str, str]:
    """What a file of weights says of itself."""
    replay, student = proxy.work.replay, proxy.contract.student
    assert replay is not None
    about: dict[str, Any] = {"mean": student.mean, "std": student.std}
    about["provenance"] = provenance.student_record(proxy.work.catalog, replay.store)
    if names := replay.store.spec.teacher.get("class_names"):
        about["class_names"] = names
    return {name: json.dumps(value) for name, value in about.items()}
