"""A detector on a TinyViT's pyramid learns from COCO annotations: real photographs pasted on real textures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from distill import models
from distill.errors import DamagedImage, DistillError
from scripts.detector.coco import AnnotatedImages, read_annotations
from scripts.detector.train_detector import batches, main
from tests.conftest import read_image

skimage = pytest.importorskip("skimage")
PHOTOS = Path(skimage.__file__).parent / "data"
OBJECTS = {
    "face": ("astronaut", 0, 200, 150, 300),
    "cat": ("chelsea", 20, 250, 100, 330),
    "cup": ("coffee", 80, 320, 130, 420),
}
IDS = {"cup": 7, "cat": 17, "face": 3}
SHAPE: dict[str, Any] = {
    "dims": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "heads": [1, 1, 2, 2],
    "windows": [7, 7, 14, 7],
}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images, each with two objects cut out of photographs on brick or gravel, and their COCO annotations."""
    folder = tmp_path_factory.mktemp("coco")
    random = np.random.default_rng(0)
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": number, "name": name} for name, number in IDS.items()]
    for number in range(8):
        ground = read_image(PHOTOS / ("brick.png", "gravel.png")[number % 2])[:96, :128].copy()
        for place in range(2):
            name = list(OBJECTS)[int(random.integers(3))]
            photo, top, bottom, left, right = OBJECTS[name]
            height, width = (int(side) for side in random.integers(28, 48, 2))
            cut = cv2.resize(read_image(PHOTOS / f"{photo}.png")[top:bottom, left:right], (width, height))
            y, x = int(random.integers(0, 96 - height)), int(random.integers(0, 64 - width)) + 64 * place
            ground[y : y + height, x : x + width] = cut
            box = {"image_id": 100 + number, "category_id": IDS[name], "bbox": [x, y, width, height], "iscrowd": 0}
            content["annotations"].append({"id": len(content["annotations"]), "area": width * height, **box})
        cv2.imwrite(str(folder / f"{number}.png"), ground)
        content["images"].append({"id": 100 + number, "file_name": f"{number}.png", "height": 96, "width": 128})
    (folder / "coco.json").write_text(json.dumps(content))
    return folder


def changed(coco: Path, to: Path, **changes: Any) -> Path:
    path = to / "changed.json"
    path.write_text(json.dumps(json.loads((coco / "coco.json").read_text()) | changes))
    return path


def start(coco: Path, out: Path, *more: str) -> Result:
    words = [
        str(coco),
        str(coco / "coco.json"),
        "--out",
        str(out),
        "--size",
        "96",
        "--channels",
        "16",
        "--workers",
        "0",
    ]
    return CliRunner().invoke(main, [*words, *more])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small networks are slowed by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("kind", "steps"), [("retinanet", 40), ("fasterrcnn", 10)])
def test_the_loss_falls(kind: str, steps: int, coco: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = models.build("tiny_vit", num_classes=5, image_size=32, **SHAPE)
    models.save_weights(net, tmp_path / "a.safetensors", metadata={"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"})
    result = start(coco, tmp_path / "out", "--weights", str(tmp_path / "a.safetensors"), "--kind", kind,
        "--steps", str(steps), "--lr", "1e-3", "--batch-size", "2")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "8 images, 16 boxes of 3 classes; 0 annotations left out" in result.output
    lines = [json.loads(line) for line in (tmp_path / "out" / "losses.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    assert len(losses) == steps
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:4]), losses
    assert (tmp_path / "out" / "detector.safetensors").exists()
    again = start(coco, tmp_path / "out")
    assert (again.exit_code, "name a new one with --out" in again.output) == (1, True)


def test_images_come_with_their_boxes(coco: Path) -> None:
    annotations = read_annotations(coco / "coco.json")
    assert annotations.class_names == ("face", "cup", "cat"), "by COCO's ids"
    raw = json.loads((coco / "coco.json").read_text())
    for index, (pixels, target) in enumerate(AnnotatedImages(coco, annotations)[n] for n in range(8)):
        own = [each for each in raw["annotations"] if each["image_id"] == 100 + index]
        expected = sorted((each["category_id"], *each["bbox"]) for each in own)
        got = [
            (IDS[annotations.class_names[label - 1]], left, top, right - left, bottom - top)
            for label, (left, top, right, bottom) in zip(
                target["labels"].tolist(), target["boxes"].tolist(), strict=True
            )
        ]
        assert sorted(got) == expected
        assert target["image_id"].item() == 100 + index
        stored = read_image(coco / f"{index}.png")[:, :, ::-1].astype(np.float32) / 255
        np.testing.assert_allclose(pixels.permute(1, 2, 0), stored, atol=1e-6)


def test_crowds_and_boxes_without_area_are_left_out(coco: Path, tmp_path: Path) -> None:
    raw = json.loads((coco / "coco.json").read_text())["annotations"]
    raw[0]["iscrowd"], raw[1]["bbox"][2] = 1, 0
    annotations = read_annotations(changed(coco, tmp_path, annotations=raw))
    assert (len(annotations), len(annotations.labels), annotations.num_left_out) == (7, 14, 2), (
        "the first image has none left"
    )
    assert annotations.files[0] == b"1.png"


def test_wrong_annotations_are_refused(coco: Path, tmp_path: Path) -> None:
    box = {"image_id": 100, "category_id": 3, "bbox": [0, 0, 5, 5]}
    for wrong, message in (
        ([], "has no box of an object"),
        ([box | {"image_id": 1}], "refers to image 1, which the file does not hold"),
        ([box | {"category_id": 1}], "refers to category 1, which the file does not hold"),
        ([box | {"bbox": [0, 0, 5]}], "does not hold COCO annotations"),
        ([box | {"bbox": [0, 0, 5, float("nan")]}], "does not hold COCO annotations"),
    ):
        with pytest.raises(DistillError, match=message):
            read_annotations(changed(coco, tmp_path, annotations=wrong))
    with pytest.raises(DistillError, match="cannot read annotations"):
        read_annotations(tmp_path / "none.json")
    annotations = read_annotations(changed(coco, tmp_path, annotations=[box | {"bbox": [500, 0, 5, 5]}]))
    with pytest.raises(DamagedImage, match="lies outside its image"):
        AnnotatedImages(coco, annotations)[0]
    with pytest.raises(DamagedImage, match="is missing or cannot be decoded"):
        AnnotatedImages(tmp_path, read_annotations(coco / "coco.json"))[0]


def test_batches_go_through_every_epoch() -> None:
    rows = [row for batch in batches(5, batch_size=2, steps=10, seed=0) for row in batch]
    assert [sorted(rows[n : n + 5]) for n in range(0, 20, 5)] == [[0, 1, 2, 3, 4]] * 4
    assert rows[:5] != rows[5:10]
