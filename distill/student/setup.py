"""The parts of a student pass, each made from the settings: order of the data, plan, loss, batches, network.

`train_student` runs them in `loop`; `dry_run` does so for a few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch.nn.parallel import DistributedDataParallel

from distill import inputs, models
from distill.config import TrainStudentConfig
from distill.data.batches import TrainBatches
from distill.data.catalog import Catalog
from distill.data.damage_log import DamageLog
from distill.data.order import Order, first_rows
from distill.data.pairs import group_starts
from distill.data.seeds import DerivedSeeds, SeedSource, StoredViews
from distill.errors import DistillError, UsageError
from distill.models import TinyViT
from distill.replay.open_store import Replay, open_replay
from distill.replay.proofs import ProofVerifier, VerifyFirstReads
from distill.runs import run_dir
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.student.evaluator import make_evaluator
from distill.student.init_weights import load_init_weights
from distill.student.loop import Plan, Training
from distill.student.optim import adamw, schedule
from distill.targets.losses import TailDistributions, soft_target_loss
from distill.targets.sparse import SparseTargets
from distill.views import ViewSpec


def view_spec(config: TrainStudentConfig, replay: Replay | None) -> ViewSpec:
    """How views are drawn: as the teacher's were; without a store, by the `view` settings."""
    return replay.spec if replay else inputs.open_view_spec(config.view)


def make_order(config: TrainStudentConfig, catalog: Catalog, runtime: Runtime, replay: Replay | None) -> Order:
    """The order in which every process reads rows."""
    mix, repeats = view_spec(config, replay).mix, config.train.repeats
    if mix and repeats > 1:
        raise UsageError("train.repeats > 1 cannot be used with mixed views: a row has another partner in each epoch")
    if replay and repeats > len(replay.epochs):
        raise UsageError(f"train.repeats={repeats}: the store has {len(replay.epochs)} epochs, too few views per row")
    return Order(
        starts=group_starts(first_rows(catalog.starts, config.data.rows), mix, num_rows=len(catalog)),
        unit=2 if mix else 1,
        repeats=repeats,
        seed=config.train.seed,
        batch_size=config.train.batch_size,
        world=runtime.world,
        accumulate=config.train.accumulation(runtime.world),
        partial=config.train.partial_step,
        window_shards=config.data.window_shards,
    )


def make_plan(config: TrainStudentConfig, order: Order, runtime: Runtime, replay: Replay | None) -> Plan:
    """The settings of the training loop, in steps."""
    per_epoch = order.steps_per_epoch
    total = config.train.steps or round(config.train.epochs * per_epoch)
    return Plan(
        schedule=schedule(config.optim, global_batch=order.step_rows, steps_per_epoch=per_epoch, total_steps=total),
        order=order,
        total_steps=total,
        seed=config.train.seed,
        clip_grad=config.optim.clip_grad,
        label_smoothing=config.train.label_smoothing,
        log_every=config.run.log_every,
        save_every=config.run.save_every or per_epoch,
        eval_every=config.eval.every * per_epoch,
        normalise=make_normalise(config, runtime),
        target_loss=make_target_loss(config, runtime, replay),
    )


def make_target_loss(
    config: TrainStudentConfig, runtime: Runtime, replay: Replay | None
) -> Callable[[torch.Tensor, SparseTargets], torch.Tensor] | None:
    """The loss on the store's targets, (logits (b, c), targets) -> (b,); None without a store.

    **Raises:** `DistillError` where the store does not have what the `loss` settings need.
    """
    if replay is None:
        return None
    store, temperature, tail = replay.store, config.loss.temperature, config.loss.tail
    if store.spec.selection != "topk" and temperature != 1:
        raise DistillError(
            f"loss.temperature={temperature:g}: the classes in {store.path} are random draws (selection "
            f"{store.spec.selection}), which represent the teacher at temperature 1 alone"
        )
    if tail == "stored":
        tail = "learned" if store.spec.tail_groups else "uniform"
    tail_distributions = None
    if tail == "learned":
        model = store.tail_model()
        if model is None:
            raise DistillError(
                f"loss.tail=learned: {store.path} has learned no tail; make a store with store.tail=learned, or "
                "choose another loss.tail"
            )
        tail_distributions = TailDistributions.of(model, temperature=temperature, device=runtime.device)
    return partial(soft_target_loss, tail=tail, temperature=temperature, tail_model=tail_distributions)


def make_normalise(config: TrainStudentConfig, runtime: Runtime) -> Normalise:
    """From uint8 images to the student's input."""
    return Normalise(
        config.student.mean, config.student.std, device=runtime.device, channels_last=config.compute.channels_last
    )


def make_batches(
    config: TrainStudentConfig, catalog: Catalog, order: Order, runtime: Runtime, replay: Replay | None
) -> TrainBatches:
    """The student's batches, with targets where there is a store."""
    spec, verify, source = view_spec(config, replay), None, make_source(config, catalog, replay)
    if replay and config.store.check != "off":
        verifier = ProofVerifier(replay.store, spec, catalog)
        strict = config.store.check == "strict"
        verify = VerifyFirstReads(verifier, rank=runtime.rank, world=runtime.world, strict=strict)
    return TrainBatches(
        catalog,
        order=order,
        rank=runtime.rank,
        spec=spec,
        size=config.student.image_size,
        source=source,
        num_classes=replay.store.spec.num_classes if replay else None,
        epochs=replay.epochs if replay else (),
        verify=verify,
    )


def make_source(config: TrainStudentConfig, catalog: Catalog, replay: Replay | None) -> SeedSource:
    """Seeds and targets of the views from the store; without one, seeds derived from `train.seed`."""
    return StoredViews(replay.store) if replay else DerivedSeeds(base=config.train.seed, num_samples=len(catalog))


def make_training(config: TrainStudentConfig, runtime: Runtime, num_classes: int) -> Training:
    """The student, its weights initialised from `train.seed` or a file, and its optimiser, on this process's device."""
    torch.manual_seed(config.train.seed)
    student = config.student
    net = models.build(
        student.name,
        num_classes=num_classes,
        image_size=student.image_size,
        drop_path=student.drop_path,
        **student.dimensions(),
    )
    if student.init:
        load_init_weights(net, config)
    net.to(runtime.device)
    models.use_norms(net, config.train.batchnorm)
    net.checkpoint_blocks(config.train.grad_checkpoint)
    runtime.place(net, config.compute)
    ema = ModelEmaV3(net, decay=config.train.ema_decay) if config.train.ema_decay is not None else None
    if ema:
        ema.requires_grad_(False)
    model, optimizer = runtime.accelerator.prepare(net, adamw(net, config.optim))
    if isinstance(model, DistributedDataParallel):
        # BatchNorm statistics are synchronised, or local until `broadcast_statistics`. Broadcasting all buffers before
        # every step, DDP's default, would change nothing.
        model.broadcast_buffers = False
    model.train()
    return Training(net, model, optimizer, ema)


def results(config: TrainStudentConfig, training: Training) -> dict[str, TinyViT]:
    """The networks whose weights a finished run writes, by file name."""
    if not training.ema:
        return {run_dir.WEIGHTS: training.net}
    if config.eval.weights == "ema":
        return {run_dir.WEIGHTS: training.ema.module}
    return {run_dir.EMA_WEIGHTS: training.ema.module, run_dir.WEIGHTS: training.net}


def make_damage_log(config: TrainStudentConfig, runtime: Runtime) -> DamageLog:
    """The log of damaged images, in the run's folder."""
    assert config.run.dir
    return DamageLog(damaged=config.data.damaged, path=Path(config.run.dir) / "damaged.jsonl", rank=runtime.rank)


def classes_of_labels(catalog: Catalog) -> int:
    """The number of classes of a data set. **Raises:** `DistillError` unless all its samples have labels."""
    if not catalog.num_classes or np.any(catalog.labels < 0):
        raise DistillError(
            f"{catalog.where} has samples without a label: give store.path to train on a teacher's logits"
        )
    return catalog.num_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPass:
    """Everything that a student pass consists of, except the student."""

    catalog: Catalog
    replay: Replay | None
    """The store; None: training on labels."""
    num_classes: int
    evaluator: Callable[[Training], dict[str, Any]] | None
    order: Order
    plan: Plan
    batches: TrainBatches


def make_pass(config: TrainStudentConfig, runtime: Runtime) -> StudentPass:
    """Opens the data and the store, and checks that they fit each other and the settings."""
    assert config.data.path
    catalog = inputs.open_catalog(config.data, config.data.path)
    replay = open_replay(config.store, catalog) if config.store.path else None
    num_classes = replay.store.spec.num_classes if replay else classes_of_labels(catalog)
    evaluator = make_evaluator(
        config, runtime, num_classes, normalise=make_normalise(config, runtime),
        damage_log=make_damage_log(config, runtime),
    )  # fmt: skip
    order = make_order(config, catalog, runtime, replay)
    return StudentPass(
        catalog=catalog,
        replay=replay,
        num_classes=num_classes,
        evaluator=evaluator,
        order=order,
        plan=make_plan(config, order, runtime, replay),
        batches=make_batches(config, catalog, order, runtime, replay),
    )


def describe(config: TrainStudentConfig, student_pass: StudentPass, runtime: Runtime, training: Training) -> str:
    """A run's network, data and steps, in a few lines."""
    source, order, plan, replay = "labels", student_pass.order, student_pass.plan, student_pass.replay
    if replay:
        spec = replay.store.spec
        source = (
            f"{replay.store.path}: top {spec.topk} of {spec.num_classes} classes, {len(replay.epochs)} stored epochs"
        )
    return (
        f"{config.student.name}: {models.count_params(training.net) / 1e6:.2f} M parameters at "
        f"{config.student.image_size} px, from {source}\n"
        f"{plan.total_steps} steps of {order.step_rows} rows ({order.batch_size} x {runtime.world} processes x "
        f"{order.accumulate} accumulated), {plan.steps_per_epoch} steps per epoch of {order.num_rows} rows; "
        f"peak learning rate {plan.schedule.peak:.3g}"
    )
