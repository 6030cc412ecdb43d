"""Teacher and student pass beside what they add to: the rows of `bench_train.py` that need data.

- `distill_vs_labels`: steps of the student's training loop, loader included, with a store (top 100 of 1,000 classes)
  against the same loop on labels. Both draw the same views of the same rows.
- `teacher_vs_forward`: views/s of a teacher pass, loader and writing included, against the teacher's forward alone on
  batches in memory.

Images and weights are random and made at run time: their content changes no time measured here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import distill.config.command
import logitstore
from distill import inputs, models
from distill.config import SaveLogitsConfig, TrainStudentConfig
from distill.data.batches import BlockBatches
from distill.data.catalog import Catalog, open_catalog
from distill.data.damage_log import DamageLog
from distill.data.loader import load
from distill.data.packing.pack import pack
from distill.replay.open_store import open_replay
from distill.runtime import processes
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress
from distill.student.loop import train
from distill.student.setup import make_batches, make_damage_log, make_order, make_plan, make_training
from distill.teacher.run import list_slices, list_tasks, run_teacher
from distill.teacher.setup import store_spec
from scripts.bench.models import CLASSES, synchronise, timed

TOPK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    student: tuple[str, ...]
    """Command-line arguments that choose the student; the teacher has the same architecture."""
    image_size: int
    batch: int
    precision: str
    threads: int | None
    workers: int
    """0: the loader runs in the process that trains, so all of its time is counted."""
    steps: int
    """Per turn."""
    turns: int
    rows: int
    """Number of images in the data set."""


def pass_ratios(folder: Path, setting: Setting) -> dict[str, float]:
    """Both ratios and their rates, in images/s."""
    write_images(folder / "images", count=setting.rows)
    pack(folder / "images", folder / "data", rows_per_shard=256)
    catalog = replace(open_catalog(folder / "data"), class_names=tuple(map(str, range(CLASSES))))
    return _teacher_ratio(folder, catalog, setting) | _student_ratio(folder, catalog, setting)


def write_images(folder: Path, *, count: int) -> None:
    """JPEG files of 500 x 375 pixels with some texture, in folders of two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (48, 64, 3), np.uint8)
        image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        target = folder / f"{number % 2:03d}"
        target.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / f"{number:06d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 85])


def _teacher_ratio(folder: Path, catalog: Catalog, setting: Setting) -> dict[str, float]:
    """Each turn: a pass over one new epoch, then the forward alone on some batches. Leaves a store for the students."""
    config = _save_logits_config(folder, setting)
    runtime = processes.start(config.compute)
    teacher = inputs.open_teacher(config.teacher)
    spec = store_spec(config, view=inputs.open_view_spec(config.view), catalog=catalog, teacher=teacher)
    runtime.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    dataset = BlockBatches(
        catalog, spec=inputs.open_view_spec(config.view), size=teacher.image_size, seed=spec.store_seed,
        rows_per_block=spec.rows_per_block, proof_rows=spec.proof_rows,
    )  # fmt: skip
    assert config.store.path
    logitstore.create(config.store.path, spec, keys=catalog.key_hashes(), labels=np.asarray(catalog.labels))
    parts = list(list_slices(spec, list_tasks([(0, 0)], epochs_per_read=1), config.batch_size))
    batches = [normalise(batch.pixels_bhwc.to(runtime.device)) for part in parts[:4] for batch in dataset[part]]
    damage_log = DamageLog(damaged="stop", path=folder / "damaged.jsonl", rank=0)
    passes, forwards = [], []
    with logitstore.writer(config.store.path) as writer:
        for epoch in range(setting.turns):
            clock = _Clock(runtime)
            run_teacher(
                teacher, writer, spec=spec, dataset=dataset,
                tasks=list_tasks([(epoch, block) for block in range(spec.num_blocks)], epochs_per_read=1),
                batch_size=config.batch_size, workers=setting.workers, prefetch=2, damage_log=damage_log,
                normalise=normalise, runtime=runtime, progress=clock, stop=lambda: None,
            )  # fmt: skip
            passes.append(clock.rate_to_now())
            forwards.append(_forward_rate(teacher.net, batches, runtime, count=setting.steps))
    return {
        "teacher_vs_forward": median(a / b for a, b in zip(passes, forwards, strict=True)),
        "teacher pass": median(passes),
        "teacher forward": median(forwards),
    }


def _forward_rate(net: nn.Module, batches: list[Tensor], runtime: Runtime, *, count: int) -> float:
    """Images/s of the network's forward on normalised batches, under the pass's autocast."""

    @torch.inference_mode()
    def forward() -> None:
        with runtime.accelerator.autocast():
            for number in range(count):
                net(batches[number % len(batches)])

    images = sum(len(batches[number % len(batches)]) for number in range(count))
    return images / timed(forward, runtime.device)


class _Clock(Progress):
    """Takes the place of the progress display and measures the rate after the first batch, when the loader runs."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__("", total=0, unit="", shown=False)
        self._runtime, self._first = runtime, 0
        self._began = 0.0

    def advance(self, count: int, *, text: str | None = None) -> None:
        super().advance(count, text=text)
        if not self._first:
            synchronise(self._runtime.device)
            self._first, self._began = self.done, time.perf_counter()

    def rate_to_now(self) -> float:
        synchronise(self._runtime.device)
        return (self.done - self._first) / (time.perf_counter() - self._began)


def _student_ratio(folder: Path, catalog: Catalog, setting: Setting) -> dict[str, float]:
    """Two students, with and without the store, take turns of a few steps each; the first turn of each warms up."""
    steps = {name: _student(folder, catalog, setting, stored=name == "distill") for name in ("distill", "labels")}
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-1, setting.turns):
        for name in sorted(steps, reverse=turn % 2 == 0):
            rate = setting.steps * setting.batch / steps[name]()
            if turn >= 0:
                rates[name].append(rate)
    return {
        "distill_vs_labels": median(a / b for a, b in zip(rates["distill"], rates["labels"], strict=True)),
        "student on a store": median(rates["distill"]),
        "student on labels": median(rates["labels"]),
    }


def _student(folder: Path, catalog: Catalog, setting: Setting, *, stored: bool) -> Callable[[], float]:
    """A student pass, set up as `distill.train_student` does. **Returns** a function that runs some more steps and
    returns their seconds."""
    config = _train_student_config(folder, setting, stored=stored)
    runtime = processes.start(config.compute)
    replay = open_replay(config.store, catalog) if stored else None
    order = make_order(config, catalog, runtime, replay)
    plan = make_plan(config, order, runtime, replay)
    dataset = make_batches(config, catalog, order, runtime, replay)
    training = make_training(config, runtime, CLASSES)
    batches = load(dataset, range(plan.total_steps), workers=setting.workers, prefetch=2, pin=runtime.pin)
    damage_log = make_damage_log(config, runtime)

    def steps() -> float:
        turn = replace(plan, total_steps=training.step + setting.steps)

        def run() -> None:
            train(
                training, turn, batches, runtime=runtime, damage_log=damage_log, log=lambda values: None,
                save=lambda: None, evaluate=None, stop=lambda: None,
                progress=Progress("", total=0, unit="", shown=False),
            )  # fmt: skip

        return timed(run, runtime.device)

    return steps


def _save_logits_config(folder: Path, setting: Setting) -> SaveLogitsConfig:
    config = _train_student_config(folder, setting, stored=False)
    student = config.student
    teacher = models.build(
        student.name, num_classes=CLASSES, image_size=setting.image_size, **student.dimensions()
    )  # fmt: skip
    names = "[" + ", ".join(f'"{n}"' for n in range(CLASSES)) + "]"
    metadata = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]", "class_names": names}
    models.save_weights(teacher, folder / "teacher.safetensors", metadata=metadata)
    arguments = [
        f"data.path={folder / 'data'}", "teacher=tiny_vit", f"teacher.weights={folder / 'teacher.safetensors'}",
        f"store.path={folder / 'store.zarr'}", f"store.topk={TOPK}", f"store.epochs={setting.turns}",
        f"batch_size={setting.batch}", *_compute(setting),
    ]  # fmt: skip
    return distill.config.command.load("save_logits", SaveLogitsConfig, arguments)


def _train_student_config(folder: Path, setting: Setting, *, stored: bool) -> TrainStudentConfig:
    arguments = [
        f"data.path={folder / 'data'}", f"run.dir={folder / 'run'}", *setting.student,
        f"student.image_size={setting.image_size}", f"train.batch_size={setting.batch}",
        f"train.steps={setting.steps * (setting.turns + 1)}", *_compute(setting),
    ]  # fmt: skip
    if stored:
        arguments.append(f"store.path={folder / 'store.zarr'}")
    return distill.config.command.load("train_student", TrainStudentConfig, arguments)


def _compute(setting: Setting) -> list[str]:
    threads = "null" if setting.threads is None else setting.threads
    return [f"compute.precision={setting.precision}", f"compute.threads={threads}"]
