"""Transfer as a program: features, the cache, the probes together, the table, fine-tuning, wrong requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

import logitstore
from distill import models
from distill.data.catalog import Catalog, open_catalog
from distill.data.packing.pack import pack
from distill.errors import DistillError, Stopped, UsageError
from distill.probes import features, knn, linear
from distill.probes.features import Features
from distill.views import EvalSpec, eval_pixels
from tests.conftest import TINY, write_images
from tests.programs import call, run

FEW = ["few_shot.ways=3", "few_shot.queries=4", "few_shot.shots=[1]", "few_shot.episodes=20", "knn.neighbours=[5]"]


@pytest.fixture(scope="module")
def val_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer_val")
    pack(write_images(folder / "images", 40), folder / "data", rows_per_shard=20)
    return folder / "data"


@pytest.fixture(scope="module")
def teacher_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny TinyViT for 32 px whose every tensor is random, so that its features differ between images."""
    torch.manual_seed(0)
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(float(name.endswith(("norm.weight", "bn.weight"))), 0.2, generator=generator)
            elif parameter.ndim == 2:
                parameter.normal_(0.0, 0.4, generator=generator)
            else:
                parameter.mul_(3)
    path = tmp_path_factory.mktemp("filled") / "teacher.safetensors"
    models.save_weights(net, path, metadata={"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"})
    return path


def transfer_arguments(data: Path, val: Path, weights: Path, out: Path, *more: str) -> list[str]:
    return [
        f"data.path={data}", f"data.val_path={val}", "teacher=tiny_vit", f"teacher.weights={weights}", f"out={out}",
        "data.workers=0", "compute.threads=1", "linear.penalties=[1e-3,1e-1]", *FEW, *more,
    ]  # fmt: skip


def cached(out: Path, catalog: Catalog) -> np.ndarray:
    """The features in a cache that belong to a data set."""
    (about,) = (path for path in out.glob("features/*/about.json") if catalog.fingerprint in path.read_text())
    return np.load(about.parent / "features.npy")


def plain_features(catalog: Catalog, images: Path, weights: Path) -> np.ndarray:
    """Features of single images: the mean of the last map, normalised."""
    teacher = models.build_teacher(kind="tiny_vit", weights=weights)
    net: Any = teacher.net
    rows = []
    for row in range(len(catalog)):
        data = (images / catalog.key(row)).read_bytes()
        spec = EvalSpec(crop=teacher.crop, interpolation=teacher.interpolation)
        pixels = (eval_pixels(data, spec, size=32) / 255.0 - 0.5) / 0.5
        with torch.no_grad():
            pixels_bchw = torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)[None]
            map_bchw = net.forward_features(pixels_bchw)
            rows.append(net.head.norm(map_bchw.mean((2, 3)))[0].numpy())
    return np.stack(rows)


def test_probes_on_features_of_plain_loops(
    image_folder: Path,
    data_path: Path,
    val_path: Path,
    teacher_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    call("transfer", transfer_arguments(data_path, val_path, teacher_weights, out))
    printed = capsys.readouterr().out.splitlines()
    head, line = printed[-2:]
    assert [head.split()[0], line.split()[0]] == ["model", "tiny_vit"]
    for column in ("px", "params M", "MACs G", "5-NN", "linear", "3-way 1-shot"):
        assert column in head
    val = open_catalog(val_path)
    expected = plain_features(val, val_path.parent / "images", teacher_weights)
    np.testing.assert_allclose(cached(out, val), expected, atol=1e-4)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert (unit @ unit.T).min() < 0.9, "images differ by far more than rounding"
    result = json.loads((out / "tiny_vit.json").read_text())
    train_and_val = [
        Features(
            values_nd=plain_features(catalog, images, teacher_weights), labels_n=np.array(catalog.labels, np.int64)
        )
        for catalog, images in ((open_catalog(data_path), image_folder), (val, val_path.parent / "images"))
    ]
    device = torch.device("cpu")
    near = knn.score(*train_and_val, neighbours=[5], temperature=0.07, num_classes=3, device=device)
    assert result["scores"]["knn"]["5"]["top1"] == pytest.approx(near[5].top1, abs=2.6), "one image of 40 may differ"
    fitted = linear.score(*train_and_val, penalties=[1e-3, 1e-1], held_out=0.1, max_iterations=500, seed=0,
        num_classes=3, device=device)  # fmt: skip
    assert result["scores"]["linear"]["top1"] == pytest.approx(fitted.scores.top1, abs=2.6)
    assert result["scores"]["linear"]["penalty"] == fitted.penalty
    assert result["scores"]["few_shot"]["1"]["episodes"] == 20
    assert result["subject"]["params"] == models.count_params(
        models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    )

    # The same again: neither the network nor an image is used, and the scores are the same.
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("features were computed again")

    monkeypatch.setattr(features, "compute", refuse)
    call("transfer", transfer_arguments(data_path, val_path, teacher_weights, out))
    assert json.loads((out / "tiny_vit.json").read_text()) == result
    for argument in ("features.crop=0.5", "features.image_size=40", "data.rows=100"):
        with pytest.raises(AssertionError, match="computed again"):
            call("transfer", transfer_arguments(data_path, val_path, teacher_weights, tmp_path / "other", argument,
                f"features.cache={out / 'features'}"))  # fmt: skip


def test_features_do_not_depend_on_batches_workers_or_processes(data_path: Path, val_path: Path, teacher_weights: Path,
    tmp_path: Path) -> None:  # fmt: skip
    val = open_catalog(val_path)
    call("transfer", transfer_arguments(data_path, val_path, teacher_weights, tmp_path / "a", "methods=[knn]"))
    first = cached(tmp_path / "a", val)
    call(
        "transfer",
        transfer_arguments(data_path, val_path, teacher_weights, tmp_path / "b", "methods=[knn]", "data.workers=2"),
    )
    assert np.array_equal(cached(tmp_path / "b", val), first)
    more = ["methods=[knn]", "features.batch_size=7"]
    call("transfer", transfer_arguments(data_path, val_path, teacher_weights, tmp_path / "c", *more))
    np.testing.assert_allclose(cached(tmp_path / "c", val), first, atol=1e-5)
    done = run("transfer", transfer_arguments(data_path, val_path, teacher_weights, tmp_path / "d", *more), processes=2)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    np.testing.assert_allclose(cached(tmp_path / "d", val), first, atol=1e-5)
    scores = [json.loads((tmp_path / name / "tiny_vit.json").read_text())["scores"] for name in "acd"]
    assert scores[0] == scores[1] == scores[2]


def test_models_stand_side_by_side(data_path: Path, val_path: Path, teacher_weights: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    out = tmp_path / "out"
    net = timm.create_model("test_efficientnet", num_classes=9)
    torch.save(net.state_dict(), tmp_path / "other.pth")
    call("transfer", transfer_arguments(data_path, val_path, teacher_weights, out, "methods=[knn]", "name=ours"))
    timms = ["teacher=timm", "teacher.name=test_efficientnet", f"teacher.weights={tmp_path / 'other.pth'}"]
    timms += ["teacher.num_classes=9", "features.image_size=64", "methods=[few_shot]"]
    call("transfer", [*transfer_arguments(data_path, val_path, teacher_weights, out)[:2], f"out={out}", *FEW, *timms,
        "data.workers=0", "linear.penalties=[1e-3,1e-1]"])  # fmt: skip
    table = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[0] for line in table] == ["model", "ours", "test_efficientnet"]
    assert [line.split()[4] for line in table[1:]][1] == "-", "knn is not among its methods"
    call(
        "transfer",
        transfer_arguments(
            data_path, val_path, teacher_weights, out, "methods=[knn]", "name=third", "knn.neighbours=[3]"
        ),
    )
    assert capsys.readouterr().out.splitlines()[-1] == (
        "(on other data or with other settings, and not shown: ours, test_efficientnet)"
    )
    with pytest.raises(DistillError, match=r"ours\.json holds results with another settings, and was not changed"):
        call(
            "transfer", transfer_arguments(data_path, val_path, teacher_weights, out, "name=ours", "knn.neighbours=[3]")
        )
    call("transfer", transfer_arguments(data_path, val_path, teacher_weights, out, "name=ours", "methods=[few_shot]"))
    assert set(json.loads((out / "ours.json").read_text())["scores"]) == {"knn", "few_shot"}


def test_a_model_is_probed_and_fine_tuned_on_other_classes(
    data_path: Path, teacher_weights: Path, tmp_path: Path
) -> None:
    images = write_images(tmp_path / "images", 30)
    (images / "cup").rename(images / "zebra")
    for path in sorted((images / "bell").iterdir()):
        path.rename(images / "anchor" / f"b{path.name}")
    (images / "bell").rmdir()
    pack(images, tmp_path / "two", rows_per_shard=20)
    settings = "train.epochs:1,train.batch_size:10,optim.base_batch:null,data.window_shards:3"
    base = [f"data.path={tmp_path / 'two'}", f"data.val_path={tmp_path / 'two'}", f"out={tmp_path / 'out'}"]
    base += ["teacher=tiny_vit", f"teacher.weights={teacher_weights}", "data.workers=0", "compute.threads=1"]
    base += ["methods=[knn,finetune]", "knn.neighbours=[3]", f"finetune.settings={{{settings}}}", "name=a b"]
    call("transfer", base)
    scores = json.loads((tmp_path / "out" / "a b.json").read_text())["scores"]
    assert set(scores) == {"knn", "finetune"}
    assert scores["finetune"]["steps"] == 3
    assert scores["finetune"]["settings"]["train.epochs"] == 1
    assert scores["finetune"]["settings"]["optim.layer_decay"] == 0.8
    assert 0 <= scores["finetune"]["top1"] <= 100
    tuned = models.describe_weights(tmp_path / "out" / "finetune" / "a b" / "student.safetensors")
    assert tuned["class_names"] == ["anchor", "zebra"]
    assert tuned["mean"] == [0.5, 0.5, 0.5]
    with pytest.raises(UsageError, match=r"train\.epoks"):
        call("transfer", [*base, "finetune.settings={train.epoks:1}"])


def test_a_stopped_fine_tuning_goes_on(data_path: Path, val_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    def arguments(out: Path, *more: str) -> list[str]:
        # A precision other than that of the features.
        settings = ["train.steps:4", "train.batch_size:10", "data.window_shards:3", "compute.precision:bf16", *more]
        return transfer_arguments(data_path, val_path, teacher_weights, out, "methods=[knn,finetune]",
            f"finetune.settings={{{','.join(settings)}}}")  # fmt: skip

    def tuned(out: Path) -> dict[str, torch.Tensor]:
        return load_file(out / "finetune" / "tiny_vit" / "student.safetensors")

    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    call("transfer", arguments(undisturbed))
    with pytest.raises(Stopped, match=r"its time limit, after step . of 4\. The same command continues from there"):
        call("transfer", arguments(stopped, "run.time_limit:0.01s"))
    assert set(json.loads((stopped / "tiny_vit.json").read_text())["scores"]) == {"knn"}
    call("transfer", arguments(stopped))
    assert json.loads((stopped / "tiny_vit.json").read_text())["scores"]["finetune"]["steps"] == 4
    expected = tuned(undisturbed)
    assert all(torch.equal(values, expected[name]) for name, values in tuned(stopped).items())


def test_the_linear_probe_becomes_a_teacher(data_path: Path, val_path: Path, tmp_path: Path) -> None:
    own, store = tmp_path / "deeper" / "own.safetensors", tmp_path / "own.zarr"
    base = [f"data.path={data_path}", f"data.val_path={val_path}", f"out={tmp_path / 'out'}", "data.workers=0"]
    base += ["compute.threads=1", "teacher=efficientnet_lite0", "features.image_size=64", "methods=[linear]"]
    call("transfer", [*base, "linear.penalties=[1e-2]", f"save={own}"])
    probed = json.loads((tmp_path / "out" / "efficientnet_lite0.json").read_text())["scores"]["linear"]
    saved = ["teacher=saved", f"teacher.weights={own}", "data.workers=0", "compute.threads=1"]
    call("evaluate", [f"data.val_path={val_path}", *saved, f"json={tmp_path / 'evaluated.json'}"])
    evaluated = json.loads((tmp_path / "evaluated.json").read_text())
    assert evaluated["top1"] == pytest.approx(probed["top1"])
    call("save_logits", [f"data.path={data_path}", f"store.path={store}", *saved, "store.topk=2"])
    assert logitstore.open(store).spec.num_classes == 3
    assert logitstore.open(store).spec.teacher["class_names"] == ["anchor", "bell", "cup"]
    for arguments, message in (
        ([f"save={own}", "methods=[knn]"], "methods= leaves it out"),
        ([f"save={tmp_path / 'own.pth'}"], r"must end in \.safetensors"),
    ):
        with pytest.raises(UsageError, match=message):
            call("transfer", [*base, *arguments])


def test_features_damaged_on_disk_are_detected(data_path: Path, val_path: Path, teacher_weights: Path,
    tmp_path: Path) -> None:  # fmt: skip
    out = tmp_path / "out"
    call("transfer", transfer_arguments(data_path, val_path, teacher_weights, out, "methods=[knn]"))
    for path in out.glob("features/*/features.npy"):
        with path.open("r+b") as file:
            file.seek(500)
            file.write(b"\x55\x55")
    with pytest.raises(DistillError, match=r"features\.npy was damaged since it was written: remove"):
        call("transfer", transfer_arguments(data_path, val_path, teacher_weights, out, "methods=[knn]"))


def test_wrong_requests_are_refused(data_path: Path, val_path: Path, wordnet_path: Path, teacher_weights: Path,
    tmp_path: Path) -> None:  # fmt: skip
    base = transfer_arguments(data_path, val_path, teacher_weights, tmp_path / "out")
    for argument, message in (
        ("methods=[svm]", "methods=svm: choose one of knn, linear, few_shot, finetune"),
        ("methods=[]", "give at least one of"),
        ("knn.neighbours=[0]", "must be at least 1"),
        ("knn.temperature=0", "knn.temperature=0"),
        ("linear.penalties=[0]", "give positive numbers"),
        ("linear.held_out=1", "must be between 0 and 1"),
        ("few_shot.ways=1", "must be at least 2"),
        ("name=a/b", "without a slash"),
        ("run.dir=x", "either run.dir=FOLDER or teacher=CHOICE"),
        ("knn.k=3", "knn"),
    ):
        with pytest.raises(UsageError, match=message):
            call("transfer", [*base, argument])
    with pytest.raises(DistillError, match="a probe learns the classes it is scored on"):
        call("transfer", [*base, f"data.val_path={wordnet_path}"])
    with pytest.raises(DistillError, match=r"few_shot\.ways=4: only 3 classes"):
        call("transfer", [*base, "few_shot.ways=4", "methods=[few_shot]"])
    lite = [argument for argument in base if not argument.startswith("teacher")] + ["teacher=efficientnet_lite0"]
    with pytest.raises(UsageError, match="the student pass trains TinyViTs, and efficientnet_lite0 is none"):
        call("transfer", [*lite, "methods=[finetune]"])
    assert not (tmp_path / "out" / "tiny_vit.json").exists()
