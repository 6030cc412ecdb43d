"""The real ImageNet-1k teacher over real photographs into a store, and a TinyViT trained from it for a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import logitstore
from distill.data.catalog import open_catalog
from distill.data.packing.pack import pack
from distill.runs.metric_log import read_metrics
from logitstore.cli import main as logitstore_command
from scripts.demo.photographs import main as make_photographs
from tests.programs import call

CATS = {281, 282, 285}  # Tabby, tiger cat, Egyptian cat.
ESPRESSO = 967


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    result = CliRunner().invoke(make_photographs, [str(folder / "images"), "--per-photo", "3"])
    assert result.exit_code == 0, result.output
    pack(folder / "images", folder / "data")
    return folder / "data"


@pytest.mark.slow
def test_a_student_learns_from_the_real_teacher(photographs: Path, tmp_path: Path) -> None:
    store_path = tmp_path / "t.zarr"
    teacher = ["teacher=efficientnet_lite0", f"data.path={photographs}", f"store.path={store_path}", "data.workers=0"]
    call("save_logits", [*teacher, "view=none", "compute.threads=1"])
    store, catalog = logitstore.open(store_path), open_catalog(photographs)
    rows = store.read(epoch=0, rows=slice(None))
    top_classes: dict[str, list[int]] = {name: [] for name in catalog.class_names}
    for label, first in zip(catalog.labels, rows.indices[:, 0], strict=True):
        top_classes[catalog.class_names[label]].append(int(first))
    assert sum(first in CATS for first in top_classes["chelsea"]) >= 2
    assert sum(first == ESPRESSO for first in top_classes["coffee"]) >= 2
    np.testing.assert_allclose(rows.dense().sum(axis=1), 1, atol=1e-5)
    shown = CliRunner().invoke(logitstore_command, ["show", str(store_path), "--epoch", "0", "--row", "0", "--json"])
    assert shown.exit_code == 0
    assert len(json.loads(shown.output)["classes"]) == 10

    call("verify_logits", [*teacher, "check.rows=8", "compute.threads=1"])
    page = tmp_path / "gallery.html"
    call("gallery", [f"data.path={photographs}", f"store.path={store_path}", f"out={page}", "show.rows=2"])
    assert "are those that the teacher saw" in page.read_text() and "espresso" in page.read_text()
    words = [f"data.path={photographs}", f"store.path={store_path}", f"run.dir={tmp_path / 'run'}", "data.workers=1"]
    words += ["student=tiny_vit_5m", "train.batch_size=4", "train.steps=3", "run.log_every=1", "optim.base_batch=null"]
    call("train_student", words)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if "lr" in line] == [1, 2, 3]
    assert all(0 < line["loss"] < 10 for line in lines if "lr" in line)
    assert "accuracy" not in lines[0], "eight folders are not the teacher's thousand classes"
