"""The parts of a student pass, each made from the configuration: data order, plan, pictures, model, evaluation.

`train_student` runs them with `loop`; `rehearsal` tries them for a few steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch.nn.parallel import DistributedDataParallel

from distill import inputs, models
from distill.config import TrainStudentConfig
from distill.data.batches import EvalBatches, TrainBatches
from distill.data.catalog import Catalog
from distill.data.damage_log import DamageLog
from distill.data.order import Order, first_rows
from distill.data.pairs import group_starts
from distill.data.seeds import DerivedSeeds, SeedSource, StoredViews
from distill.errors import DistillError, UsageError
from distill.evaluation import score
from distill.models import TinyViT
from distill.replay.open_store import Replay, open_replay
from distill.replay.proofs import ProofVerifier, VerifyFirstReads
from distill.runs import run_dir
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.student.init_weights import load_init_weights
from distill.student.loop import Plan, Training
from distill.student.optim import adamw, schedule
from distill.targets.losses import TailDistributions, soft_target_loss
from distill.targets.sparse import SparseTargets
from distill.views import EvalSpec, ViewSpec


def view_spec(config: TrainStudentConfig, replay: Replay | None) -> ViewSpec:
    """How views are drawn: as the teacher's were, or, without a store, as the `view` settings say."""
    return replay.spec if replay else inputs.open_view_spec(config.view)


def make_order(config: TrainStudentConfig, catalog: Catalog, runtime: Runtime, replay: Replay | None) -> Order:
    """Which rows every process reads when."""
    mix, repeats = view_spec(config, replay).mix, config.train.repeats
    if mix and repeats > 1:
        raise UsageError("train.repeats > 1 does not go with mixed views: a row has another partner in each epoch")
    if replay and repeats > len(replay.epochs):
        raise UsageError(f"train.repeats={repeats}: the store has {len(replay.epochs)} epochs of views to deal at once")
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
    """The run in steps."""
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
    """The loss on what the store keeps, (logits (b, c), targets) -> (b,); None without a store.

    **Raises:** `DistillError` where the store cannot serve it.
    """
    if replay is None:
        return None
    store, temperature, tail = replay.store, config.loss.temperature, config.loss.tail
    if store.spec.selection != "topk" and temperature != 1:
        raise DistillError(
            f"loss.temperature={temperature:g}: the classes in {store.path} were drawn (selection "
            f"{store.spec.selection}), which stands for the teacher at temperature 1 alone"
        )
    if tail == "stored":
        tail = "learned" if store.spec.tail_groups else "uniform"
    tables = None
    if tail == "learned":
        model = store.tail_model()
        if model is None:
            raise DistillError(
                f"loss.tail=learned: {store.path} has learned no tail; make a store with store.tail=learned, or take "
                "another loss.tail"
            )
        tables = TailDistributions.of(model, temperature=temperature, device=runtime.device)
    return partial(soft_target_loss, tail=tail, temperature=temperature, tables=tables)


def make_normalise(config: TrainStudentConfig, runtime: Runtime) -> Normalise:
    """From pictures to the student's input."""
    return Normalise(
        config.student.mean, config.student.std, device=runtime.device, channels_last=config.compute.channels_last
    )


def make_batches(
    config: TrainStudentConfig, catalog: Catalog, order: Order, runtime: Runtime, replay: Replay | None
) -> TrainBatches:
    """The student's images, with the store's targets where there is one."""
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
    """The views' seeds and targets, from the store; without one, seeds drawn from `train.seed`."""
    return StoredViews(replay.store) if replay else DerivedSeeds(base=config.train.seed, num_samples=len(catalog))


def make_training(config: TrainStudentConfig, runtime: Runtime, num_classes: int) -> Training:
    """The student with weights drawn from `train.seed`, and its optimiser, on this process's device."""
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
        # Statistics of BatchNorm are joint, or each process's own until `broadcast_statistics`: sending all buffers
        # before
        # every step, as is the default, would change nothing.
        model.broadcast_buffers = False
    model.train()
    return Training(net, model, optimizer, ema)


def make_evaluator(
    config: TrainStudentConfig, runtime: Runtime, num_classes: int
) -> Callable[[Training], dict[str, Any]] | None:
    """A function from a training to its scores, or None without evaluation data."""
    if not config.data.val_path:
        return None
    catalog = inputs.open_catalog(config.data, config.data.val_path)
    score.check_classes(catalog, num_classes)
    spec = EvalSpec(crop=config.eval.crop, interpolation=config.eval.interpolation, full=config.eval.full)
    dataset = EvalBatches(catalog, spec=spec, size=config.student.image_size)
    damage_log = make_damage_log(config, runtime)
    normalise = make_normalise(config, runtime)

    def score_net(net: TinyViT) -> dict[str, Any]:
        if runtime.world > 1:
            broadcast_statistics(net)
        return asdict(
            score.evaluate(
                net,
                dataset,
                batch_size=config.eval.batch_size,
                workers=config.data.workers,
                damage_log=damage_log,
                runtime=runtime,
                normalise=normalise,
            )
        )

    def scores(training: Training) -> dict[str, Any]:
        ema = training.ema.module if training.ema and config.eval.weights != "raw" else None
        if ema and config.eval.weights == "ema":
            return score_net(ema)
        beside = {f"ema_{name}": value for name, value in score_net(ema).items()} if ema else {}
        beside.pop("ema_num_images", None)
        return score_net(training.net) | beside

    return scores


def broadcast_statistics(net: TinyViT) -> None:
    """Gives every process the first one's BatchNorm statistics, which are those of checkpoints and of the result."""
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)


def results(config: TrainStudentConfig, training: Training) -> dict[str, TinyViT]:
    """The networks that a finished run leaves, by the name of their file."""
    if not training.ema:
        return {run_dir.WEIGHTS: training.net}
    if config.eval.weights == "ema":
        return {run_dir.WEIGHTS: training.ema.module}
    return {run_dir.EMA_WEIGHTS: training.ema.module, run_dir.WEIGHTS: training.net}


def make_damage_log(config: TrainStudentConfig, runtime: Runtime) -> DamageLog:
    """Where damaged images are logged."""
    assert config.run.dir
    return DamageLog(
        damaged=config.data.damaged,
        path=Path(config.run.dir) / "damaged.jsonl",
        rank=runtime.rank,
    )


def classes_of_labels(catalog: Catalog) -> int:
    """The number of classes of a fully labelled data set. **Raises:** `DistillError` for any other."""
    if not catalog.num_classes or np.any(catalog.labels < 0):
        raise DistillError(f"{catalog.where} has samples without a label: give store.path to train from a teacher")
    return catalog.num_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPass:
    """All that a student pass is made of, but the student."""

    catalog: Catalog
    replay: Replay | None
    """The store and its views; None where labels teach."""
    num_classes: int
    evaluator: Callable[[Training], dict[str, Any]] | None
    order: Order
    plan: Plan
    batches: TrainBatches


def make_pass(config: TrainStudentConfig, runtime: Runtime) -> StudentPass:
    """Opens the data and the store, and sees that they fit each other and the configuration."""
    assert config.data.path
    catalog = inputs.open_catalog(config.data, config.data.path)
    replay = open_replay(config.store, catalog) if config.store.path else None
    num_classes = replay.store.spec.num_classes if replay else classes_of_labels(catalog)
    evaluator = make_evaluator(config, runtime, num_classes)
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


def describe(config: TrainStudentConfig, work: StudentPass, runtime: Runtime, training: Training) -> str:
    """What is about to happen, in a few lines."""
    source, order, plan = "labels", work.order, work.plan
    if work.replay:
        spec = work.replay.store.spec
        source = (
            f"{work.replay.store.path}: top {spec.topk} of {spec.num_classes} classes, {len(work.replay.epochs)} "
            "stored epochs"
        )
    return (
        f"{config.student.name}: {models.count_params(training.net) / 1e6:.2f} M parameters at "
        f"{config.student.image_size} px, from {source}\n"
        f"{plan.total_steps} steps of {order.step_rows} rows ({order.batch_size} x {runtime.world} processes x "
        f"{order.accumulate} accumulated), {plan.steps_per_epoch} steps an epoch of {order.num_rows} rows; "
        f"peak learning rate {plan.schedule.peak:.3g}"
    )
