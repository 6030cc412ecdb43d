"""The recipes in conf/experiment: each composes, holds the published settings, says what is true, and trains."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from distill import config, models
from distill.config import command
from distill.errors import UsageError
from distill.runs.metric_log import read_metrics
from tests.programs import ROOT, TINY_STUDENT, call, teacher_arguments

FOLDER = ROOT / "conf" / "experiment"
SIZES = ("5m", "11m", "21m")
TEACHER = ("save_logits_in21k", "save_logits_in1k")
KINDS = ("in21k", "in21k_to_in1k", "scratch", "in1k_distill")
STUDENT = (*(f"tiny_vit_{size}_{kind}" for kind in KINDS for size in SIZES), "tiny_vit_21m_384", "tiny_vit_21m_512")
ROWS = {"in1k": 1_281_167, "in21k": 14_197_122}

# What is published of each training: arXiv 2207.10666 and github.com/microsoft/Cream, TinyViT/configs.
SETTINGS: dict[str, dict[str, Any]] = {
    "in21k": {
        "train.epochs": 90, "train.global_batch": 4096, "optim.lr": 2.5e-4, "optim.weight_decay": 0.01,
        "optim.warmup_lr": 5e-7, "optim.min_lr": 5e-6, "optim.warmup_epochs": 5, "drop_path": (0.0, 0.0, 0.1),
        "train.batch_size": 128, "train.batchnorm": "local", "optim.layer_decay": 1.0, "mix": None,
    },
    "in21k_to_in1k": {
        "train.epochs": 30, "train.global_batch": 1024, "optim.lr": 2.5e-4, "optim.weight_decay": 1e-8,
        "optim.warmup_lr": 5e-7, "optim.min_lr": 1e-5, "optim.warmup_epochs": 5, "drop_path": (0.0, 0.0, 0.1),
        "train.batch_size": 128, "train.batchnorm": "frozen", "optim.layer_decay": 0.8, "mix": None,
        "student.init_classes": "map", "train.label_smoothing": 0.1, "eval.full": False,
    },
    "scratch": {
        "train.epochs": 300, "train.global_batch": 1024, "optim.lr": 5e-4, "optim.weight_decay": 0.05,
        "optim.warmup_lr": 5e-7, "optim.min_lr": 5e-6, "optim.warmup_epochs": 20, "drop_path": (0.0, 0.1, 0.2),
        "train.batch_size": 128, "train.batchnorm": "local", "optim.layer_decay": 1.0, "train.label_smoothing": 0.1,
        "mix": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 1.0, "switch_prob": 0.5},
    },
    "in1k_distill": {
        "train.epochs": 300, "train.global_batch": 1024, "optim.lr": 5e-4, "optim.weight_decay": 0.05,
        "optim.warmup_epochs": 20, "drop_path": (0.0, 0.0, 0.1), "mix": None,
    },
    "384": {
        "train.epochs": 30, "train.global_batch": 1024, "train.batch_size": 32, "optim.lr": 2e-5,
        "optim.warmup_lr": 2e-8, "optim.min_lr": 2e-7, "optim.weight_decay": 1e-8, "optim.warmup_epochs": 5,
        "drop_path": (0.1,), "train.batchnorm": "frozen", "optim.layer_decay": 1.0, "train.label_smoothing": 0.1,
        "mix": None, "student.init_windows": "resize", "eval.full": True, "student.image_size": 384,
    },
}  # fmt: skip
SETTINGS["512"] = SETTINGS["384"] | {"student.image_size": 512}
SHARED: dict[str, Any] = {
    "optim.clip_grad": 5.0, "optim.base_batch": 512, "optim.cosine": "from_start", "optim.betas": [0.9, 0.999],
    "optim.eps": 1e-8,
}  # fmt: skip
VIEW = {"policy": "rand-m9-mstd0.5-inc1", "erase": 0.25, "flip": 0.5, "scale": [0.08, 1.0], "interpolation": "bicubic"}
SCORES = {
    "tiny_vit_5m_scratch": (79.02, 94.74), "tiny_vit_5m_in21k_to_in1k": (80.71, 95.57),
    "tiny_vit_11m_scratch": (81.44, 95.79), "tiny_vit_11m_in21k_to_in1k": (83.19, 96.53),
    "tiny_vit_21m_scratch": (83.08, 96.58), "tiny_vit_21m_in21k_to_in1k": (84.85, 97.27),
    "tiny_vit_21m_384": (86.21, 97.77), "tiny_vit_21m_512": (86.44, 97.89),
}  # fmt: skip


def compose(name: str, *more: str) -> config.TrainStudentConfig:
    init = ["student.init=weights.pth"] if "_to_" in name or name[-3:] in ("384", "512") else []
    words = [f"experiment={name}", "data.path=x", "run.dir=y", *init, *more]
    return command.load("train_student", config.TrainStudentConfig, words)


def kind_of(name: str) -> str:
    return name.split("_", 3)[3]


def value_of(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


def test_there_is_a_recipe_for_every_row_and_no_other() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(STUDENT + TEACHER)
    assert set(SCORES) <= set(STUDENT)


@pytest.mark.parametrize("name", STUDENT)
def test_a_recipe_holds_the_published_settings(name: str) -> None:
    settings, kind = compose(name), kind_of(name)
    expected = SHARED | SETTINGS[kind]
    drop_path, mix = expected.pop("drop_path"), expected.pop("mix")
    assert {key: value_of(settings, key) for key in expected} == expected
    number = SIZES.index(name.split("_")[2]) if len(drop_path) > 1 else 0
    assert settings.student.drop_path == drop_path[number]
    assert settings.student.name == "_".join(name.split("_")[:3])
    assert {key: settings.view[key] for key in VIEW} == VIEW
    found = settings.view.get("mix")
    assert (found and {key: found[key] for key in mix}) == mix
    net = models.resolve_config(
        settings.student.name, dimensions={"num_classes": 1000, "image_size": settings.student.image_size}
    )
    windows = {224: (7, 7, 14, 7), 384: (12, 12, 24, 12), 512: (16, 16, 32, 16)}
    assert settings.student.windows is None and net.windows == windows[settings.student.image_size]


@pytest.mark.parametrize("name", STUDENT)
def test_what_a_recipe_says_is_true(name: str) -> None:
    settings, text = compose(name), (FOLDER / f"{name}.yaml").read_text()
    for part in ("# @package _global_", "# row: ", "# command: ", "# processes: ", "# expected: ", "# cost: "):
        assert part in text
    header = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert re.search(rf"torchrun .*-m distill\.train_student .*experiment={name} ", header)
    if name in SCORES:
        assert "top-1 {:.2f} %, top-5 {:.2f} % on ImageNet-1k (published)".format(*SCORES[name]) in header
    size, classes = settings.student.image_size, 21841 if name.endswith("_in21k") else 1000
    with torch.device("meta"):
        net = models.build(settings.student.name, num_classes=classes, image_size=size)
    macs, rows = models.count_macs(net, size), ROWS["in21k" if classes > 1000 else "in1k"]
    if shown := re.search(r"([\d.]+) M parameters, ([\d.]+) GMACs", header):
        assert shown.groups() == (f"{models.count_params(net) / 1e6:.2f}", f"{macs / 1e9:.2f}")
    epochs = round(settings.train.epochs)
    cost = f"{epochs} epochs x {rows:,} = {epochs * rows / 1e6:,.0f} M views; x {macs / 1e9:.2f} G x 3 (forward, and "
    assert cost + f"twice that for gradients) = {3 * epochs * rows * macs:.2e} multiply-accumulates" in header
    (line,) = re.findall(rf"\| `{name}` \|.*", (ROOT / "docs" / "recipes.md").read_text())
    assert line.endswith(f"| {epochs * rows / 1e6:,.0f} | {3 * epochs * rows * macs:.2e} |")
    assert "{:.2f} / {:.2f}".format(*SCORES[name]) in line if name in SCORES else "/" not in line
    processes, batch = re.search(r"processes: (\d+) of (\d+) rows", header).groups()  # type: ignore[union-attr]
    assert settings.train.batch_size == int(batch)
    accumulate = settings.train.accumulation(int(processes))
    assert accumulate * int(batch) * int(processes) == settings.train.global_batch
    assert accumulate == (4 if size > 224 else 1)
    nodes, each = re.search(r"torchrun (?:--nnodes (\d+) )?--nproc_per_node (\d+)", header).groups()  # type: ignore[union-attr]
    assert int(nodes or 1) * int(each) == int(processes)


@pytest.mark.parametrize("name", STUDENT)
def test_a_recipe_trains(
    name: str, wordnet_path: Path, pretrained: Path, teacher_weights: Path, store_path: Path, tmp_path: Path
) -> None:
    """Two steps of a small student on small images; schedule, options and losses are the recipe's own."""
    settings = compose(name)
    words = [
        f"experiment={name}", f"data.path={wordnet_path}", f"run.dir={tmp_path / 'run'}", *TINY_STUDENT,
        f"student.drop_path={settings.student.drop_path}", "train.batch_size=8", "train.global_batch=16",
        "train.steps=2", "run.log_every=1", "data.workers=0", "compute.threads=1",
    ]  # fmt: skip
    if name.endswith("_distill") or name.endswith("_in21k"):
        words.append(f"store.path={store_path}")
    else:
        words.append(f"data.val_path={wordnet_path}")
    if settings.student.init_classes == "map":
        words.append(f"student.init={pretrained}")
    elif settings.student.init:
        words += [f"student.init={teacher_weights}", "student.windows=[4,4,2,4]"]
    call("train_student", words)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses, rates = ([line[key] for line in lines if "lr" in line] for key in ("loss", "lr"))
    assert len(losses) == 2 and all(math.isfinite(loss) for loss in losses)
    assert rates[0] == pytest.approx(settings.optim.warmup_lr * 16 / 512)
    assert (tmp_path / "run" / "student.safetensors").exists()


@pytest.fixture(scope="module")
def store_path(wordnet_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipe of a teacher pass makes of small data."""
    path = tmp_path_factory.mktemp("store") / "t.zarr"
    call("save_logits", [*teacher_arguments(wordnet_path, teacher_weights, path), "experiment=save_logits_in1k"])
    return path


@pytest.mark.parametrize(
    ("name", "topk", "epochs", "rows"), [(TEACHER[0], 100, 90, "in21k"), (TEACHER[1], 10, 300, "in1k")]
)
def test_a_teachers_recipe(
    name: str, topk: int, epochs: int, rows: str, data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    more = ["teacher=timm"] if rows == "in1k" else []
    words = [f"experiment={name}", "data.path=x", "store.path=y", *more]
    settings = command.load("save_logits", config.SaveLogitsConfig, words)
    assert settings.teacher.kind == ("timm" if rows == "in1k" else "clip")
    assert (settings.store.topk, settings.store.epochs) == (topk, epochs)
    assert {key: settings.view[key] for key in VIEW} == VIEW and "mix" not in settings.view
    text = (FOLDER / f"{name}.yaml").read_text()
    assert f"{epochs} epochs x {ROWS[rows]:,} = {epochs * ROWS[rows] / 1e6:,.0f} M views" in text
    assert f"-m distill.save_logits experiment={name} " in text
    call("save_logits", [*teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr"), f"experiment={name}"])


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"experiment/resnet50.*tiny_vit_11m_in21k_to_in1k.*tiny_vit_5m_scratch"):
        compose("resnet50")
    with pytest.raises(UsageError, match=r"experiment=save_logits_in1k is a recipe of another program"):
        compose("save_logits_in1k", "teacher=timm")
    with pytest.raises(UsageError, match=r"student\.init is not set"):
        compose("tiny_vit_21m_384", "student.init=null")
