"""What a store saves: time and memory of a student's steps with logits from a store, and with the teacher online.

Both arms are set up as a student pass is and see the same views. Time: they take turns in one process. Memory: each
runs in a process of its own, whose peak counts. Nothing else should run at the same time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import timm

import distill.config.command
from distill import models, save_logits
from distill.config import SaveLogitsConfig, TrainStudentConfig
from distill.data.loader import load
from distill.data.packing.pack import pack
from distill.runtime import processes
from distill.runtime.progress import Progress
from distill.student.loop import train
from distill.student.setup import make_damage_log, make_pass, make_training
from scripts.demo.photographs import write_photographs
from scripts.studies.reproduced import stores
from scripts.studies.reproduced.images import data_path
from scripts.studies.reproduced.online import online_batches
from scripts.studies.reproduced.scoring import build
from scripts.studies.reproduced.settings import STUDENTS, Cost, Store

PHOTOGRAPHS = 16
"""Crops per photograph; there are eight photographs."""


def make_photographs(work: Path) -> None:
    """Packs photographs and stores EfficientNet-Lite0's top 10 of one view of each."""
    folder = work / "photographs"
    if not (folder / "data").exists():
        shutil.rmtree(folder, ignore_errors=True)
        write_photographs(folder / "images", per_photo=PHOTOGRAPHS, seed=0)
        pack(folder / "images", folder / "packed")
        (folder / "packed").rename(folder / "data")
    arguments = [
        f"data.path={folder / 'data'}", f"store.path={folder / 'teacher.zarr'}", "teacher=efficientnet_lite0",
        "data.workers=0", "batch_size=16",
    ]  # fmt: skip
    save_logits.main(distill.config.command.load("save_logits", SaveLogitsConfig, arguments))


def measure(work: Path, cell: Cost, *, store: Store) -> dict[str, Any]:
    """Seconds per step in every turn of each arm; a first turn warms up.

    **Arguments:** `store`: of the cells on Fashion-MNIST.
    """
    arms = {name: _arm(work, cell, store=store, online=name == "online") for name in cell.arms}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(-1, cell.turns):
        for name in sorted(arms, reverse=turn % 2 == 0):
            per_step = arms[name]() / cell.steps
            if turn >= 0:
                seconds[name].append(per_step)
    result: dict[str, Any] = {"seconds_a_step": seconds}
    if len(arms) == 2:
        result["ratio"] = median(b / a for a, b in zip(seconds["stored"], seconds["online"], strict=True))
    return result


def _arm(work: Path, cell: Cost, *, store: Store, online: bool) -> Callable[[], float]:
    """A student pass, set up. **Returns** a function that runs one turn of steps and returns its seconds."""
    config = distill.config.command.load("train_student", TrainStudentConfig, _arguments(work, cell, store))
    runtime = processes.start(config.compute)
    student_pass = make_pass(config, runtime)
    dataset: Any = student_pass.batches
    if online:
        dataset = online_batches(student_pass.batches, _teacher(cell), config, runtime)
    training = make_training(config, runtime, student_pass.num_classes)
    batches = load(dataset, range(student_pass.plan.total_steps), workers=0)
    damage_log = make_damage_log(config, runtime)

    def turn() -> float:
        plan = replace(student_pass.plan, total_steps=training.step + cell.steps, save_every=0, log_every=0)
        began = time.perf_counter()
        train(
            training, plan, batches, runtime=runtime, damage_log=damage_log, log=lambda values: None, save=lambda: None,
            evaluate=None, stop=lambda: None, progress=Progress("", total=0, unit="", shown=False),
        )  # fmt: skip
        return time.perf_counter() - began

    return turn


def _arguments(work: Path, cell: Cost, store: Store) -> list[str]:
    data, path = data_path(work, store.of.data), stores.store_path(work, store)
    if cell.student == "TinyViT-5M":
        data, path = work / "photographs" / "data", work / "photographs" / "teacher.zarr"
    return [
        f"data.path={data}", f"store.path={path}", *STUDENTS[cell.student], f"train.batch_size={cell.batch}",
        f"train.steps={cell.steps * (cell.turns + 1)}", "data.workers=0", f"compute.threads={cell.threads}",
        "run.dir=unused",
    ]  # fmt: skip


def _teacher(cell: Cost) -> models.ImageModel:
    """The cell's teacher. `random_clip` takes the time and memory of the published teacher."""
    if cell.teacher != "random_clip":
        return build(cell.teacher)
    net = timm.create_model("vit_large_patch14_clip_quickgelu_224", num_classes=1000)
    net.eval().requires_grad_(False)
    return models.ImageModel(
        net=net, kind="clip", name="random", num_classes=1000, image_size=224, mean=(0.5,) * 3, std=(0.5,) * 3,
        crop=1.0, interpolation="bicubic", weights_sha256="", class_names=None,
    )  # fmt: skip
