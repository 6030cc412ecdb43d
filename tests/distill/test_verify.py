"""Verification of a store: a good store passes, and every kind of difference fails and is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import distill.data.view_reader
import logitstore
from distill import models
from distill.data.catalog import Catalog
from distill.data.shards import ShardReader
from distill.errors import DistillError
from distill.views import ViewSpec, draw, image_size, render
from tests.conftest import read_image
from tests.programs import call, teacher_arguments


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path))
    return path


def verify_arguments(data: Path, weights: Path, store: Path, *more: str) -> list[str]:
    return [
        f"data.path={data}", f"store.path={store}", "teacher=tiny_vit", f"teacher.weights={weights}", "data.workers=0",
        "check.rows=40", "compute.threads=1", *more,
    ]  # fmt: skip


def test_a_good_store_passes(
    store_path: Path, data_path: Path, teacher_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("verify_logits", verify_arguments(data_path, teacher_weights, store_path))
    out = capsys.readouterr().out
    assert "6 of 6 blocks replay identically" in out
    assert "40 rows run again" in out or "48 rows run again" in out
    assert "is verified" in out
    call("verify_logits", verify_arguments(data_path, teacher_weights, store_path, "check.blocks=2", "check.rows=0"))
    assert "2 of 2 blocks" in capsys.readouterr().out


def test_other_pixels_fail(
    store_path: Path, data_path: Path, teacher_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill.data.view_reader, "render", lambda *a, **k: np.ascontiguousarray(render(*a, **k)[::-1]))
    with pytest.raises(DistillError, match=r"(?s)failed the verification.*6 proofs fail"):
        call("verify_logits", verify_arguments(data_path, teacher_weights, store_path))


def test_another_teacher_fails(store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    teacher = models.build_teacher(kind="tiny_vit", weights=str(teacher_weights))
    with torch.no_grad():
        next(teacher.net.parameters()).mul_(1.5)
    other = tmp_path / "other.safetensors"
    metadata = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"}
    models.save_weights(teacher.net, other, metadata=metadata)  # type: ignore[arg-type]
    with pytest.raises(DistillError, match="weights_sha256"):
        call("verify_logits", verify_arguments(data_path, other, store_path))


def test_other_logits_fail(
    store_path: Path, data_path: Path, teacher_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher's weights are the same, but it answers differently."""
    original = models.build_teacher

    def changed(**settings: object) -> models.ImageModel:
        teacher = original(**settings)  # type: ignore[arg-type]
        with torch.no_grad():
            teacher.net.head.fc.bias += torch.tensor([0.5, 0, 0])  # type: ignore[union-attr, operator]
        return teacher

    monkeypatch.setattr(models, "build_teacher", changed)
    with pytest.raises(DistillError, match=r"row \d+: a log-probability differs by 0\.\d+ nats"):
        call("verify_logits", verify_arguments(data_path, teacher_weights, store_path))


def test_a_store_without_blocks_cannot_be_verified(
    store_path: Path, data_path: Path, teacher_weights: Path, tmp_path: Path, catalog: Catalog
) -> None:
    spec = logitstore.open(store_path).spec
    logitstore.create(tmp_path / "empty.zarr", spec, keys=catalog.key_hashes(), labels=np.asarray(catalog.labels))
    with pytest.raises(DistillError, match="no block yet"):
        call("verify_logits", verify_arguments(data_path, teacher_weights, tmp_path / "empty.zarr"))


def test_one_view_is_explained_and_saved(
    store_path: Path,
    data_path: Path,
    teacher_weights: Path,
    tmp_path: Path,
    catalog: Catalog,
    capsys: pytest.CaptureFixture[str],
) -> None:
    png = tmp_path / "view.png"
    call(
        "verify_logits",
        verify_arguments(
            data_path, teacher_weights, store_path, "show.row=12", "show.epoch=1", f"show.png={png}", "show.size=48"
        ),
    )
    out = capsys.readouterr().out
    assert catalog.key(12) in out
    assert "crop: " in out
    store = logitstore.open(store_path)
    seed = int(store.read(epoch=1, rows=12).seeds[0])
    data = ShardReader(catalog).read(12)
    view = draw(ViewSpec.from_json(store.spec.view), seed, image_size(data))
    saved = cv2.cvtColor(read_image(png), cv2.COLOR_BGR2RGB)
    assert np.array_equal(saved, render(data, view, size=48))
