"""Evaluation against plain loops: every number, on packed data and on folders, with one process and with two."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill import models
from distill.config import ComputeConfig
from distill.data.batch import Batch
from distill.data.catalog import Keys
from distill.data.image_folder import ImageFolder, open_image_folder
from distill.data.packing.pack import pack
from distill.errors import DistillError, UsageError
from distill.evaluation import class_mapping, score
from distill.evaluation.metrics import Calibration, Real
from distill.evaluation.published_table import model_table
from distill.evaluation.real_labels import SHIPPED, open_real_labels
from distill.models.cost import published
from distill.models.weights import class_maps
from distill.runtime import processes
from distill.views import EvalSpec, eval_pixels
from tests.conftest import TINY, write_images
from tests.programs import call, run

NUM_IMAGES = 31
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("evaluated") / "images", NUM_IMAGES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "a.safetensors", num_classes=3)


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second tiny model, of another image size and normalisation."""
    return save_tiny(tmp_path_factory.mktemp("other") / "other.safetensors", num_classes=3, image_size=40, seed=1)


def save_tiny(path: Path, *, num_classes: int, image_size: int = SIZE, seed: int = 0) -> Path:
    """A tiny model whose logits differ from image to image."""
    torch.manual_seed(seed)
    net = models.build("tiny_vit", num_classes=num_classes, image_size=image_size, **TINY)
    with torch.no_grad():
        for _ in range(5):  # BatchNorm learns the spread of images of many colours.
            net(torch.randn(16, 3, image_size, image_size) + torch.randn(16, 3, 1, 1))
        net.head.fc.weight.mul_(50)
    models.save_weights(net, path, metadata={"mean": "[0.4, 0.5, 0.6]", "std": "[0.3, 0.25, 0.2]", "crop": "0.9"})
    return path


def logits_of(folder: Path, weights: Path, *, size: int | None = None, crop: float = 0.9) -> torch.Tensor:
    """(N, c) one image at a time, in the order of a folder's rows."""
    teacher = models.build_teacher(kind="tiny_vit", weights=weights, image_size=size)
    rows = []
    for path in sorted(folder.glob("*/*")):
        pixels = eval_pixels(path.read_bytes(), EvalSpec(crop=crop), size=teacher.image_size) / 255.0
        scaled = (pixels - np.array(teacher.mean)) / np.array(teacher.std)
        with torch.no_grad():
            rows.append(teacher.net(torch.tensor(scaled, dtype=torch.float32).permute(2, 0, 1)[None])[0])
    return torch.stack(rows)


def labels_of(folder: Path) -> torch.Tensor:
    names = sorted(path.name for path in folder.iterdir())
    return torch.tensor([names.index(path.parent.name) for path in sorted(folder.glob("*/*"))])


def expected(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    probabilities = logits.softmax(1)
    error, total = 0.0, len(labels)
    confidence, guess = probabilities.max(1)
    for n in range(15):
        inside = (confidence > n / 15) & (confidence <= (n + 1) / 15)
        if inside.any():
            gap = confidence[inside].mean() - (guess[inside] == labels[inside]).float().mean()
            error += float(gap.abs()) * int(inside.sum()) / total
    top5 = logits.topk(min(5, logits.shape[1]), 1).indices
    return {
        "top1": 100 * float((guess == labels).float().mean()),
        "top5": 100 * float((top5 == labels[:, None]).any(1).float().mean()),
        "loss": float(torch.nn.functional.cross_entropy(logits, labels)),
        "ece": 100 * error,
        "num_images": total,
    }


def words(path: Path, weights: Path, out: Path, *more: str) -> list[str]:
    return [
        f"data.val_path={path}", "teacher=tiny_vit", f"teacher.weights={weights}", "data.workers=0", f"json={out}",
        "eval.batch_size=4", "compute.threads=1", *more,
    ]  # fmt: skip


def scores(path: Path, weights: Path, out: Path, *more: str) -> dict[str, Any]:
    call("evaluate", words(path, weights, out, *more))
    return dict(json.loads(out.read_text()))


def assert_close(got: dict[str, Any], wanted: dict[str, float]) -> None:
    assert {name: got[name] for name in wanted} == pytest.approx(wanted, abs=5e-3)


def test_folder_and_packed_data_give_the_scores_of_a_plain_loop(folder: Path, weights: Path, tmp_path: Path) -> None:
    wanted = expected(logits_of(folder, weights), labels_of(folder))
    assert 0 < wanted["ece"] < 100
    pack(folder, tmp_path / "packed", rows_per_shard=7)
    for path in (folder, tmp_path / "packed"):
        got = scores(path, weights, tmp_path / "a.json")
        assert_close(got, wanted)
        assert got["images_per_s"] > 0


def test_two_processes_count_every_image_once(folder: Path, weights: Path, other_weights: Path, tmp_path: Path) -> None:
    against = ["teacher@against=tiny_vit", f"against.weights={other_weights}"]
    alone = scores(folder, weights, tmp_path / "one.json", *against)
    done = run("evaluate", words(folder, weights, tmp_path / "two.json", *against), processes=2)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    together = json.loads((tmp_path / "two.json").read_text())
    del alone["images_per_s"], together["images_per_s"]
    assert together["num_images"] == NUM_IMAGES
    assert together == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize(("num_rows", "world"), [(31, 2), (31, 4), (3, 4), (1, 3), (50, 7)])
def test_processes_share_rows_without_rest(num_rows: int, world: int) -> None:
    class Process:
        def __init__(self, rank: int) -> None:
            self.rank, self.world = rank, world

    parts = [
        score.rows_of_process(num_rows, batch_size=4, runtime=Process(rank))  # type: ignore[arg-type]
        for rank in range(world)
    ]
    rows = [row for part in parts for rows in part for row in rows]
    assert rows == list(range(num_rows))


def test_agreement_with_a_teacher(folder: Path, weights: Path, other_weights: Path, tmp_path: Path) -> None:
    own, teachers = logits_of(folder, weights), logits_of(folder, other_weights)
    got = scores(folder, weights, tmp_path / "a.json", "teacher@against=tiny_vit", f"against.weights={other_weights}")
    same = 100 * float((own.argmax(1) == teachers.argmax(1)).float().mean())
    kl = float(torch.nn.functional.kl_div(own.log_softmax(1), teachers.softmax(1), reduction="batchmean"))
    assert kl > 0.1
    assert_close(got, {"agreement": same, "kl": kl})
    itself = scores(folder, weights, tmp_path / "a.json", "teacher@against=tiny_vit", f"against.weights={weights}")
    assert (itself["agreement"], itself["kl"]) == (100, pytest.approx(0, abs=1e-6))


def test_another_resolution_crop_and_throughput(folder: Path, weights: Path, tmp_path: Path) -> None:
    more = ["eval.image_size=48", "eval.crop=0.5", "eval.throughput=2"]
    got = scores(folder, weights, tmp_path / "a.json", *more)
    assert_close(got, expected(logits_of(folder, weights, size=48, crop=0.5), labels_of(folder)))
    assert got["model_images_per_s"] > 0
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    assert (got["image_size"], got["params"], got["macs"]) == (48, models.count_params(net), models.count_macs(net, 48))
    whole = scores(folder, weights, tmp_path / "a.json", "eval.full=true")
    own = scores(folder, weights, tmp_path / "a.json")
    assert len({round(each["loss"], 3) for each in (got, whole, own)}) == 3


@pytest.mark.parametrize("num_classes", [1000, 21841])
def test_models_of_imagenet_are_scored_on_the_datas_classes(num_classes: int, folder: Path, tmp_path: Path) -> None:
    synsets = {"anchor": "n01440764", "bell": "n02123045", "cup": "n04399382"}
    images = tmp_path / "images"
    for name, synset in synsets.items():
        (images / synset).mkdir(parents=True)
        for path in (folder / name).iterdir():
            (images / synset / path.name).write_bytes(path.read_bytes())
    weights = save_tiny(tmp_path / "a.safetensors", num_classes=num_classes)
    logits = logits_of(images, weights)
    ids = class_maps.ids_of_count(num_classes)
    parts = [logits[:, ids.index(synset)] for synset in synsets.values() if synset in ids]
    if num_classes == 21841:  # which has no teddy
        assert len(parts) == 2
        parts.append((parts[0] + parts[1]) / 2)
    got = scores(images, weights, tmp_path / "a.json", "eval.classes=wordnet")
    assert_close(got, expected(torch.stack(parts, 1), labels_of(images)))
    with pytest.raises(DistillError, match=r"has 3 classes and the model .*eval\.classes=wordnet"):
        call("evaluate", words(images, weights, tmp_path / "a.json"))
    with pytest.raises(DistillError, match=r"are not WordNet ids such as n01440764 \('anchor'\)"):
        call("evaluate", words(folder, weights, tmp_path / "a.json", "eval.classes=wordnet"))


def test_models_whose_class_names_are_ids_need_no_list(folder: Path, tmp_path: Path) -> None:
    teacher = models.build_teacher(kind="tiny_vit", weights=save_tiny(tmp_path / "a.safetensors", num_classes=3))
    images = replace(open_image_folder(folder), class_names=("n01440764", "n02123045", "n04399382"))
    named = replace(teacher, class_names=("n04399382", "n01440764", "n02123045"))
    class_map = class_mapping.map_to_data(named, images, classes="wordnet")
    assert class_map is not None
    assert class_map.sources == (1, 2, 0)
    assert (
        class_mapping.map_to_data(replace(teacher, class_names=images.class_names), images, classes="wordnet") is None
    )
    with pytest.raises(models.ModelError, match="known for classifiers of 1000 or 21841 classes, this one has 3"):
        class_mapping.map_to_data(teacher, images, classes="wordnet")


def validation(*, count: int, names: tuple[str, ...] | None = None) -> ImageFolder:
    """ImageNet's validation images by name only, in reverse order."""
    keys = [f"x/ILSVRC2012_val_{number:08d}.JPEG".encode() for number in range(count, 0, -1)]
    return ImageFolder(
        path=Path("val"), class_names=names or class_maps.synset_ids("imagenet_1k"), labels=np.zeros(count, np.int32),
        keys=Keys.of(keys),
    )  # fmt: skip


@pytest.fixture(scope="module")
def process() -> processes.Runtime:
    return processes.start(ComputeConfig())


def batch_of(rows: list[int], *, weights: list[float] | None = None, labels: list[int] | None = None) -> Batch:
    return Batch(
        epochs_b=torch.zeros(len(rows), dtype=torch.int64), rows_b=torch.tensor(rows),
        seeds_b=torch.zeros(len(rows), dtype=torch.int64),
        pixels_bhwc=torch.zeros(len(rows), 1, 1, 3, dtype=torch.uint8),
        labels_b=torch.tensor(labels or [0] * len(rows)), weights_b=torch.tensor(weights or [1.0] * len(rows)),
    )  # fmt: skip


def test_real_labels_go_by_file_name_and_leave_empty_ones_out(tmp_path: Path, process: processes.Runtime) -> None:
    answers = [[7], [], [1, 2, 3], [5], [9]]  # of images 1 to 5; row 0 is image 5
    (tmp_path / "real.json").write_text(json.dumps(answers))
    labels = open_real_labels(str(tmp_path / "real.json"), validation(count=5))
    assert labels.of([2, 3, 4]).tolist() == [[1, 2, 3], [-1, -1, -1], [7, -1, -1]]
    metric = Real(labels, device=torch.device("cpu"))
    for rows, guesses, weights in (([0, 1, 2], [9, 4, 2], [1.0, 1.0, 1.0]), ([3, 4], [0, 7], [1.0, 0.0])):
        metric.add(batch_of(rows, weights=weights), torch.nn.functional.one_hot(torch.tensor(guesses), 1000) * 3.0)
    assert metric.read(process) == {"real": pytest.approx(200 / 3), "real_images": 3}


def test_the_shipped_real_labels_are_the_published_ones() -> None:
    labels = open_real_labels(SHIPPED, validation(count=50_000))
    # As the published file begins: people did not agree on the first image.
    assert labels.of([49_999, 49_998, 49_997]).tolist() == [[-1, -1], [970, 795], [230, 231]]


def test_real_labels_of_other_things_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "real.json"
    with pytest.raises(UsageError, match="for ImageNet's 1000 classes; val has 3"):
        open_real_labels(SHIPPED, validation(count=3, names=("a", "b", "c")))
    with pytest.raises(UsageError, match="ImageNet's order of classes"):
        open_real_labels(SHIPPED, validation(count=3, names=class_maps.synset_ids("imagenet_22k")[:1000]))
    with pytest.raises(DistillError, match=r"cannot read ReaL labels from .*real\.json"):
        open_real_labels(str(path), validation(count=3))
    for content in ("{}", "[]", "[1, 2]", "[[1000]]", "[[true]]", "[["):
        path.write_text(content)
        with pytest.raises(DistillError, match=r"real\.json"):
            open_real_labels(str(path), validation(count=3))
    path.write_text("[[1], [2]]")
    with pytest.raises(DistillError, match=r"row 0 of val is x/ILSVRC2012_val_00000003.JPEG.*_00000002"):
        open_real_labels(str(path), validation(count=3)).of([0])


def test_calibration_on_numbers_worked_by_hand(process: processes.Runtime) -> None:
    metric = Calibration(bins=10, device=torch.device("cpu"))
    confidences, labels = [0.75, 0.72, 0.95, 0.95, 0.6], [0, 1, 0, -1, 0]
    logits = torch.tensor([[math.log(c), math.log(1 - c)] for c in confidences])
    metric.add(batch_of([0, 1, 2, 3], labels=labels[:4]), logits[:4])
    metric.add(batch_of([4], weights=[0.0], labels=labels[4:]), logits[4:])
    # (0.7, 0.8]: confidence 0.735, accuracy 0.5, two images; (0.9, 1.0]: 0.95 and 1, one; the others do not count.
    assert metric.read(process) == {"ece": pytest.approx(100 * (2 * 0.235 + 0.05) / 3, abs=1e-4)}


def test_damaged_files_of_a_folder_are_named_or_left_out(folder: Path, weights: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for path in folder.glob("*/*"):
        (images / path.parent.name).mkdir(parents=True, exist_ok=True)
        (images / path.parent.name / path.name).write_bytes(path.read_bytes())
    broken = min(images.glob("*/*.jpg"))
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DistillError, match=rf"row 0 \({broken.parent.name}/{broken.name}\) in "):
        call("evaluate", words(images, weights, tmp_path / "a.json"))
    got = scores(images, weights, tmp_path / "a.json", "data.damaged=skip")
    assert got["num_images"] == NUM_IMAGES - 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(DistillError, match=r"no image under .* was taken for an image folder"):
        call("evaluate", words(tmp_path / "empty", weights, tmp_path / "a.json"))


def test_wrong_requests_are_refused(folder: Path, weights: Path, tmp_path: Path) -> None:
    for word, message in (
        ("eval.classes=names", "eval.classes=names: choose one of same, wordnet"),
        ("eval.bins=0", "eval.bins=0: must be at least 1"),
        ("eval.real_labels=shipped", "for ImageNet's 1000 classes"),
    ):
        with pytest.raises(UsageError, match=message):
            call("evaluate", words(folder, weights, tmp_path / "a.json", word))
    with pytest.raises(DistillError, match=r"cannot write json=.*a\.json"):
        call("evaluate", words(folder, weights, tmp_path / "no" / "a.json"))


def test_the_table_is_printed_and_stops_at_a_difference(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call("evaluate", ["table=true"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == ["tiny_vit_5m"] * 2 + ["tiny_vit_11m"] * 2 + [
        "tiny_vit_21m"
    ] * 4
    assert lines[8].split() == [
        "tiny_vit_21m",
        "512",
        "IN-21k",
        "distill",
        *("21.27", "21.27", "27.15", "27.15", "86.44", "97.89"),
    ]
    monkeypatch.setattr(published, "TABLE", (replace(published.TABLE[0], macs_g="1.30"),))
    with pytest.raises(DistillError, match="differ from the published table: tiny_vit_5m at 224"):
        model_table()
