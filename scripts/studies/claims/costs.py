"""What a store saves: steps of a student with the teacher's answers from a store, and with the teacher beside it.

Both arms are made as a student pass is made and see the same views. For time they take turns in one process; for memory
each is alone in its own, and the process's peak counts. Nothing else should run meanwhile.
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
from scripts.demo.photographs import main as photographs
from scripts.studies.claims import stores
from scripts.studies.claims.images import data_path
from scripts.studies.claims.online import answered
from scripts.studies.claims.scoring import build
from scripts.studies.claims.settings import STUDENTS, Cost, Store

PHOTOGRAPHS = 16
"""Crops of each of eight photographs."""


def make_photographs(work: Path) -> None:
    """Photographs, packed, and a store over them: EfficientNet-Lite0's ten most probable classes of one view each."""
    folder = work / "photographs"
    if not (folder / "data").exists():
        shutil.rmtree(folder, ignore_errors=True)
        photographs.callback(target=folder / "images", per_photo=PHOTOGRAPHS, seed=0)
        pack(folder / "images", folder / "packed")
        (folder / "packed").rename(folder / "data")
    words = [
        f"data.path={folder / 'data'}", f"store.path={folder / 'teacher.zarr'}", "teacher=efficientnet_lite0",
        "data.workers=0", "batch_size=16",
    ]  # fmt: skip
    save_logits.main(distill.config.command.load("save_logits", SaveLogitsConfig, words))


def measure(work: Path, cell: Cost, *, store: Store) -> dict[str, Any]:
    """Seconds a step in every turn of each arm; one turn before them is not counted.

    **Arguments:** `store`: of the cells whose pictures are of Fashion-MNIST.
    """
    arms = {name: _arm(work, cell, store=store, online=name == "online") for name in cell.arms}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(-1, cell.turns):
        for name in sorted(arms, reverse=turn % 2 == 0):
            took = arms[name]() / cell.steps
            if turn >= 0:
                seconds[name].append(took)
    told: dict[str, Any] = {"seconds_a_step": seconds}
    if len(arms) == 2:
        told["ratio"] = median(b / a for a, b in zip(seconds["stored"], seconds["online"], strict=True))
    return told


def _arm(work: Path, cell: Cost, *, store: Store, online: bool) -> Callable[[], float]:
    """A student pass made ready; each call runs a turn of steps and returns its seconds."""
    config = distill.config.command.load("train_student", TrainStudentConfig, _words(work, cell, store))
    runtime = processes.start(config.compute)
    made = make_pass(config, runtime)
    dataset: Any = made.batches
    if online:
        dataset = answered(made.batches, _teacher(cell), config, runtime)
    training = make_training(config, runtime, made.num_classes)
    batches = load(dataset, range(made.plan.total_steps), workers=0)
    damage_log = make_damage_log(config, runtime)

    def turn() -> float:
        part = replace(made.plan, total_steps=training.step + cell.steps, save_every=0, log_every=0)
        began = time.perf_counter()
        train(
            training, part, batches, runtime=runtime, damage_log=damage_log, log=lambda values: None, save=lambda: None,
            evaluate=None, stop=lambda: None, progress=Progress("", total=0, unit="", shown=False),
        )  # fmt: skip
        return time.perf_counter() - began

    return turn


def _words(work: Path, cell: Cost, store: Store) -> list[str]:
    data, path = data_path(work, store.of.data), stores.store_path(work, store)
    if cell.student == "TinyViT-5M":
        data, path = work / "photographs" / "data", work / "photographs" / "teacher.zarr"
    return [
        f"data.path={data}", f"store.path={path}", *STUDENTS[cell.student], f"train.batch_size={cell.batch}",
        f"train.steps={cell.steps * (cell.turns + 1)}", "data.workers=0", f"compute.threads={cell.threads}",
        "run.dir=unused",
    ]  # fmt: skip


def _teacher(cell: Cost) -> models.ImageModel:
    """The cell's teacher; time and memory of `random_clip` are those of the published teacher."""
    if cell.teacher != "random_clip":
        return build(cell.teacher)
    net = timm.create_model("vit_large_patch14_clip_quickgelu_224", num_classes=1000)
    net.eval().requires_grad_(False)
    return models.ImageModel(
        net=net, kind="clip", name="random", num_classes=1000, image_size=224, mean=(0.5,) * 3, std=(0.5,) * 3,
        crop=1.0, interpolation="bicubic", weights_sha256="", class_names=None,
    )  # fmt: skip
