"""The state of a student pass on disk, from which it is resumed: checkpoints, metrics, scores.

Only the main process writes. A run resumes from its newest undamaged checkpoint, and its metrics are truncated to that
step. Whether a step was evaluated, and which evaluation was the best, is read from the metrics.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from distill.data.catalog import Catalog
from distill.data.order import Order
from distill.errors import DistillError, LossNotFinite
from distill.files import write_file
from distill.models.weights.tensor_files import not_finite
from distill.runs import run_dir
from distill.runs.checkpoint import DamagedCheckpoint, checkpoint_path, load_checkpoint, load_newest, save_checkpoint
from distill.runs.metric_log import Best, MetricLog
from distill.runtime.processes import Runtime
from distill.student.loop import Plan, Training
from logitstore.untrusted import printable


class RunState:
    """The state of a run, opened at the step from which it resumes."""

    def __init__(
        self, folder: Path, training: Training, *, plan: Plan, order: Order, catalog: Catalog, runtime: Runtime,
        keep: int, began: float, identity: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Restores `training` from the newest undamaged checkpoint, if there is one. All processes must call.

        **Arguments:** `keep`: how many of the newest checkpoints stay; `began`: `time.monotonic()` at the start;
        `identity`: digests of all else that decides the run's steps, by name; checkpoints carry them.

        **Raises:** `DistillError` if the checkpoint is of other data, of another run, or of steps of other rows, or
        does not fit the training.
        """
        self.folder, self._checkpoints = folder, folder / run_dir.CHECKPOINTS
        self._training, self._plan, self._runtime, self._keep = training, plan, runtime, keep
        self._identity: dict[str, Any] = {
            "fingerprint": catalog.fingerprint, "division": division(order), "identity": dict(identity or {}),
        }  # fmt: skip
        self._began = began
        if state := self._newest():
            try:
                check_same_data(state, catalog, folder)
                check_same_run(state, self._identity["identity"], folder)
                note = check_division(state, order, folder)
                training.restore(state, runtime)
                self._began -= float(state["seconds"])
                if training.step != int(state["step"]) or not 0 <= training.step <= plan.total_steps:
                    raise ValueError(f"step {training.step} of {plan.total_steps}")
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
                reason = printable(f"{type(error).__name__}: {error}")[:300]
                raise DistillError(
                    f"the newest checkpoint in {self._checkpoints} does not fit this run ({reason}): remove it, "
                    "and the run goes on from the one before"
                ) from None
            check_finite(training, runtime)
            runtime.say(f"continuing from step {training.step}{note}")
        self._saved = training.step
        metrics = folder / run_dir.METRICS
        self._metrics = MetricLog(metrics, resume_step=training.step) if runtime.is_main else None
        self._write_best()

    @property
    def seconds(self) -> float:
        """Duration of the run, including the time before it was resumed."""
        return time.monotonic() - self._began

    @property
    def best(self) -> Best | None:
        """At the main process: the best evaluation so far."""
        return self._metrics.best if self._metrics else None

    def scores(self, step: int) -> dict[str, Any]:
        """At the main process: the scores of a step; none if it was not evaluated."""
        return (self._metrics.scores(step) if self._metrics else None) or {}

    def log(self, values: dict[str, Any]) -> None:
        """Writes a line of metrics, and logs it to the trackers."""
        if self._metrics:
            self._metrics.write(values)
        tracked = {name: value for name, value in values.items() if name != "step"}
        self._runtime.accelerator.log(tracked, step=values["step"])

    def save(self) -> None:
        """Writes a checkpoint of the current step, unless there is one. All processes must call."""
        training = self._training
        training.meter.flush(self._runtime)
        check_finite(training, self._runtime)
        if self._runtime.is_main and training.step != self._saved:
            state = training.state(self._runtime) | self._identity | {"seconds": self.seconds}
            best = self.best
            save_checkpoint(
                self._checkpoints, state, step=training.step, keep=self._keep, best=best.step if best else None
            )
        self._saved = training.step
        self._runtime.accelerator.wait_for_everyone()

    def is_evaluated(self) -> bool:
        """Whether the current step has been evaluated. All processes must call."""
        return self._runtime.from_main(lambda: bool(self.scores(self._training.step)))

    def evaluate(self, evaluator: Callable[[Training], dict[str, Any]]) -> None:
        """Evaluates the student and logs the scores. All processes must call."""
        step = self._training.step
        scores = evaluator(self._training)
        self.log({"step": step, "epoch": step / self._plan.steps_per_epoch, **scores})
        self._write_best()

    def best_state(self) -> dict[str, Any] | None:
        """At the main process: the checkpoint of the best evaluation, if there is one that is not damaged."""
        best = self.best
        if best is None:
            return None
        try:
            return load_checkpoint(checkpoint_path(self._checkpoints, best.step))
        except DamagedCheckpoint as error:
            print(f"warning: {error}", flush=True)
            return None

    def close(self) -> None:
        if self._metrics:
            self._metrics.close()

    def _newest(self) -> dict[str, Any] | None:
        """The newest undamaged checkpoint, the same at all processes."""
        found: list[dict[str, Any]] = []

        def find() -> str | None:
            newest = load_newest(self._checkpoints)
            if newest is None:
                return None
            found.append(newest[1])
            return newest[0].name

        name = self._runtime.from_main(find)
        if name is None:
            return None
        if found:
            return found[0]
        try:
            return load_checkpoint(self._checkpoints / name)
        except DamagedCheckpoint as error:
            raise DistillError(
                f"{error}; the main process can read it: run.dir must be visible to all machines"
            ) from None

    def _write_best(self) -> None:
        """Writes the name of the best checkpoint, if it still exists."""
        path, best = self.folder / run_dir.BEST, self.best
        if not self._runtime.is_main:
            return
        if best is None or not checkpoint_path(self._checkpoints, best.step).exists():
            path.unlink(missing_ok=True)
            return
        checkpoint = checkpoint_path(Path(run_dir.CHECKPOINTS), best.step)
        entry = {"step": best.step, "top1": best.top1, "checkpoint": str(checkpoint)}
        write_file(path, json.dumps(entry) + "\n")


def check_finite(training: Training, runtime: Runtime) -> None:
    """A step's loss is computed before the step: this looks at what the last one made of the weights. All processes
    must call.

    **Raises:** `LossNotFinite`, at all processes, where weights, statistics or their average are not finite anywhere.
    """
    names = not_finite(training.net.state_dict())
    if training.ema:
        names += [f"{name} (EMA)" for name in not_finite(training.ema.module.state_dict())]
    count = torch.tensor(float(len(names)), device=runtime.device)
    if runtime.accelerator.reduce(count, reduction="sum").item():
        first = f", the first is {names[0]}" if names else ""
        raise LossNotFinite(
            f"after step {training.step} {len(names)} tensors of the student are not finite{first}. Nothing of it was "
            "saved. Lower optim.lr, or set optim.clip_grad, and start again; earlier checkpoints are as they were"
        )


def check_same_run(state: dict[str, Any], identity: Mapping[str, str], folder: Path) -> None:
    """**Raises:** `DistillError` if a checkpoint is of a run with other settings or another store. (Those of earlier
    versions do not say of which run they are.)"""
    of = state.get("identity", identity)
    if different := sorted(name for name in {*of, *identity} if of.get(name) != identity.get(name)):
        raise DistillError(
            f"the newest checkpoint in {folder / run_dir.CHECKPOINTS} is of another run: it has another "
            f"{' and another '.join(different)}. Put the run's own checkpoints back"
        )


def check_same_data(state: dict[str, Any], catalog: Catalog, folder: Path) -> None:
    """**Raises:** `DistillError` if a checkpoint is of a run on other data."""
    if state["fingerprint"] != catalog.fingerprint:
        raise DistillError(
            f"the run in {folder} was trained on other data than {catalog.where}: fingerprint {state['fingerprint']} "
            f"there, {catalog.fingerprint} here"
        )


def division(order: Order) -> dict[str, int]:
    """How the rows of a step are divided into processes and micro-batches, and their number."""
    return {
        "batch_size": order.batch_size,
        "processes": order.world,
        "accumulate": order.accumulate,
        "rows": order.step_rows,
        "partial_rows": order.partial_rows,
    }


def check_division(state: dict[str, Any], order: Order, folder: Path) -> str:
    """Compares the division of steps with that of a checkpoint. **Returns:** a note for the user.

    **Raises:** `DistillError` if steps would have other rows, so that the order could not be continued.
    """
    before, now = state["division"], division(order)
    if before == now:
        return ""
    before_text, now_text = (
        f"{d['batch_size']} x {d['processes']} processes x {d['accumulate']} accumulated" for d in (before, now)
    )
    if before["rows"] != now["rows"]:
        raise DistillError(
            f"the run in {folder} has steps of {before['rows']} rows ({before_text}); the present settings give "
            f"{now['rows']} ({now_text}), which cannot continue the order of the rows. Choose train.batch_size and "
            f"train.accumulate so that with {order.world} processes their product is {before['rows']}"
        )
    if before["partial_rows"] != now["partial_rows"]:
        raise DistillError(
            f"the run in {folder} has {before['partial_rows']} rows in the last step of an epoch ({before_text}); the "
            f"present settings give {now['partial_rows']} ({now_text}). Use as many processes as before"
        )
    return (
        f", divided differently ({now_text}; before {before_text}): each step has the same rows, but drop path and "
        "local BatchNorm act on other groups of them, so losses agree closely, not to the last bit"
    )
