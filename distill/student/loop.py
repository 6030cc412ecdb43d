"""The training loop: one optimiser step after another, from any step on.

Everything random in a step follows from (seed, step, micro-batch, rank), so a run that is resumed repeats an
uninterrupted one to the last bit, and a checkpoint holds no random state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from distill.data.batch import Batch
from distill.data.damage_log import DamageLog
from distill.data.order import Order
from distill.models import TinyViT
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.student.meter import Meter
from distill.student.optim import Schedule, set_lr
from distill.targets.losses import label_loss, mixed_label_loss
from distill.targets.sparse import SparseTargets


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of the loop."""

    schedule: Schedule
    order: Order
    """Decides the micro-batches and rows of each step."""
    total_steps: int
    seed: int
    clip_grad: float | None
    label_smoothing: float
    log_every: int
    save_every: int
    eval_every: int
    """In steps; 0: at the end only."""
    normalise: Normalise
    target_loss: Callable[[Tensor, SparseTargets], Tensor] | None = None
    """The loss on the store's targets, (logits (b, c), targets) -> (b,); None: labels."""

    @property
    def steps_per_epoch(self) -> int:
        return self.order.steps_per_epoch

    def due(self, step: int, every: int) -> bool:
        """Whether work of every `every` steps is due after `step` steps; all is due at the end."""
        return step == self.total_steps or (every > 0 and step % every == 0)


@dataclass(slots=True)
class Training:
    """The state of a run."""

    net: TinyViT
    """The network itself."""
    model: nn.Module
    """The network prepared by accelerate, for training."""
    optimizer: Any
    ema: ModelEmaV3 | None = None
    """Moving average of the weights: ema = decay * ema + (1 - decay) * weights after every optimiser step."""
    step: int = 0
    """Optimiser steps done."""
    meter: Meter = field(default_factory=Meter)

    def state(self, runtime: Runtime) -> dict[str, Any]:
        scaler = runtime.accelerator.scaler
        return {
            "step": self.step,
            "model": self.net.state_dict(),
            "average": self.ema.module.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "meter": self.meter.state(),
        }

    def restore(self, state: dict[str, Any], runtime: Runtime) -> None:
        self.step = state["step"]
        self.net.load_state_dict(state["model"])
        if self.ema:
            self.ema.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if runtime.accelerator.scaler and state["scaler"]:
            runtime.accelerator.scaler.load_state_dict(state["scaler"])
        self.meter.restore(state["meter"])


def train(
    training: Training,
    plan: Plan,
    batches: Iterator[Batch],
    *,
    runtime: Runtime,
    damage_log: DamageLog,
    log: Callable[[dict[str, Any]], None],
    save: Callable[[], None],
    evaluate: Callable[[], None] | None,
    stop: Callable[[], str | None],
    progress: Progress,
) -> str | None:
    """Runs steps `training.step` to `plan.total_steps`, or until `stop` returns a reason. **Returns:** that reason.

    **Arguments:** `batches` starts at the first micro-batch of the first step. `log` takes the metrics of an interval;
    `save` writes a checkpoint; `evaluate` scores the student and logs the scores. All processes call all of them at the
    same steps. A checkpoint precedes every evaluation, so that an interrupted evaluation is run again.

    **Raises:** `LossNotFinite` when a loss is not finite, before a checkpoint of it is saved.
    """
    meter = training.meter
    began, waited, first = time.monotonic(), 0.0, training.step
    while training.step < plan.total_steps:
        if reason := stop():
            save()
            return reason
        lr = plan.schedule(training.step)
        set_lr(training.optimizer, lr)
        waited += _step(training, plan, batches, runtime=runtime, damage_log=damage_log)
        training.step += 1
        step = training.step
        if plan.due(step, plan.log_every):
            values = meter.read(runtime)
            seconds = time.monotonic() - began
            images_per_s = sum(map(plan.order.rows_of, range(first, step))) / seconds
            timing = {"images_per_s": round(images_per_s, 1), "data_wait": round(waited / seconds, 3)}
            log({"step": step, "epoch": step / plan.steps_per_epoch, **values, "lr": lr, **timing})
            began, waited, first = time.monotonic(), 0.0, step
            progress.advance(0, text=_text(values | timing))
        progress.advance(1)
        paused = time.monotonic()
        evaluating = evaluate is not None and plan.due(step, plan.eval_every)
        if evaluating or plan.due(step, plan.save_every):
            save()
        if evaluate and evaluating:
            if reason := stop():
                return reason
            evaluate()
        began += time.monotonic() - paused
    return None


def _step(
    training: Training, plan: Plan, batches: Iterator[Batch], *, runtime: Runtime, damage_log: DamageLog
) -> float:
    """One optimiser step. **Returns:** the seconds it waited for batches."""
    waited, step_loss = 0.0, torch.zeros((), device=runtime.device)
    micro_batches = plan.order.micro_batches_of(training.step)
    # DDP averages gradients over processes; needed is the mean over the rows of all processes and micro-batches.
    scale = runtime.world / plan.order.rows_of(training.step)
    for micro_batch in range(micro_batches):
        began = time.monotonic()
        batch = next(batches)
        waited += time.monotonic() - began
        damage_log.record(batch)
        # After `next`: starting a loader draws random numbers too, and only a resumed run starts one at this step.
        index = training.step * plan.order.accumulate + micro_batch
        torch.manual_seed((plan.seed << 40) + (runtime.rank << 32) + index)
        last = micro_batch == micro_batches - 1
        with nullcontext() if last else runtime.accelerator.no_sync(training.model):
            loss = _loss(training, plan, batch, runtime=runtime) * scale
            runtime.accelerator.backward(loss)
        step_loss += loss.detach()
    norm = None
    if plan.clip_grad:
        norm = runtime.accelerator.clip_grad_norm_(training.model.parameters(), plan.clip_grad)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    if training.ema:
        training.ema.update(training.net)
    training.meter.add_step(training.step, step_loss, norm)
    return waited


def _loss(training: Training, plan: Plan, batch: Batch, *, runtime: Runtime) -> Tensor:
    """Sum of a micro-batch's losses on this process. The loss of a row with weight 0 counts as zero, and the divisor is
    always the number of rows of the step, so that rows weigh the same in every process and micro-batch."""
    device = runtime.device
    pixels_bhwc = batch.pixels_bhwc.to(device, non_blocking=True)
    labels_b = batch.main_labels_b.to(device, non_blocking=True)
    weights_b = batch.weights_b.to(device, non_blocking=True)
    targets = batch.targets.to(device) if batch.targets is not None else None
    logits_bc = training.model(plan.normalise(pixels_bhwc))
    if targets is not None:
        assert plan.target_loss is not None
        losses_b = plan.target_loss(logits_bc, targets)
    elif batch.mix_weights_b is not None and batch.partner_labels_b is not None:
        own_b, partner_b, mix_weights_b = (
            t.to(device, non_blocking=True) for t in (batch.labels_b, batch.partner_labels_b, batch.mix_weights_b)
        )
        losses_b = mixed_label_loss(logits_bc, own_b, partner_b, mix_weights_b, smoothing=plan.label_smoothing)
    else:
        losses_b = label_loss(logits_bc, labels_b, smoothing=plan.label_smoothing)
    training.meter.add(logits_bc, labels_b, targets)
    return (losses_b * weights_b).sum()


def _text(values: dict[str, Any]) -> str:
    names = [name for name in ("loss", "agreement", "accuracy") if name in values]
    metrics = [f"{name} {values[name]:.3f}" for name in names]
    return "  ".join([*metrics, f"waiting for data {100 * values['data_wait']:.0f} %"])
