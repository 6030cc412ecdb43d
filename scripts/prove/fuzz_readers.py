"""The readers that `fuzz.py` tries, each with valid files made by the product itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors.torch
import torch
import yaml
from PIL import Image

import logitstore
from distill import models
from distill.config import TrainStudentConfig
from distill.config.command import load
from distill.contraction.search_dir import SearchDir
from distill.data.catalog import open_catalog
from distill.data.packing.class_lists import classes_by_name
from distill.data.packing.listing import list_source
from distill.data.packing.pack import pack
from distill.data.shards import ShardReader
from distill.errors import DamagedImage
from distill.evaluation.real_labels import _are_class_lists
from distill.files import read_json, read_json_object
from distill.models.weights.tensor_files import read_tensors
from distill.page import curves
from distill.probes import results
from distill.runs import run_dir
from distill.runs.checkpoint import load_checkpoint, save_checkpoint
from distill.runs.metric_log import MetricLog, read_metrics
from distill.views.decode import EncodedImage, decode, decode_rgba
from logitstore.tools.import_tinyvit import import_tinyvit
from logitstore.topk import select_topk
from scripts.detector.coco import read_annotations

TINY: dict[str, Any] = {"dims": [8, 16, 24, 32], "depths": [1] * 4, "heads": [1, 1, 2, 2], "windows": [4] * 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Something that reads files from elsewhere."""

    name: str
    kind: str
    """Of the files, for the mutator: `bytes`, `shard`, `root`, `head`, `json`, `jsonl`, `yaml` or `checkpoint`."""
    files: dict[str, bytes]
    """Valid files by name, of which one is changed."""
    read: Callable[[Path, str, bytes], object]
    """Reads the changed file, (scratch folder, its name, its bytes)."""


def make_readers(valid: Path) -> list[Reader]:
    """All readers. `valid` is a folder for valid data, which must not exist."""
    valid.mkdir(parents=True)
    return [*_stores(valid), *_packed(valid), *_images(), *_archives(valid), *_weights(valid), *_runs(valid), *_lists()]


def _in_place(valid: Path, work: Callable[[Path], object]) -> Callable[[Path, str, bytes], object]:
    """A reader of a copy of the folder `valid`, in which one file is changed."""

    def read(folder: Path, name: str, data: bytes) -> object:
        copy = folder / "copy"
        if not copy.exists():
            shutil.copytree(valid, copy)
        (copy / name).write_bytes(data)
        try:
            return work(copy)
        finally:
            if copy.exists():
                shutil.copy(valid / name, copy / name)

    return read


def _file(name: str, work: Callable[[Path], object]) -> Callable[[Path, str, bytes], object]:
    """A reader of one file."""

    def read(folder: Path, _: str, data: bytes) -> object:
        path = folder / name
        path.write_bytes(data)
        return work(path)

    return read


def _stores(valid: Path) -> list[Reader]:
    path = valid / "t.zarr"
    spec = logitstore.StoreSpec(
        num_samples=20, num_epochs=2, num_classes=30, topk=5, rows_per_block=16, tail_groups=2,
        teacher={"class_names": [f"class {n}" for n in range(30)]}, data={"class_names": list("abcde")},
    )  # fmt: skip
    model = logitstore.TailModel(groups=np.arange(30) % 2, logprobs=np.full((2, 30), -np.log(30), np.float32))
    logitstore.create(path, spec, keys=np.arange(20), labels=np.arange(20) % 5, tail_model=model)
    with logitstore.writer(path) as writer:
        for epoch, block in writer.missing():
            n = len(spec.block_rows(block))
            logits = np.random.default_rng([epoch, block]).normal(size=(n, 30)).astype(np.float32) * 4
            indices, logprobs, tail = select_topk(logits, k=5)
            writer.write(
                epoch,
                block,
                seeds=np.arange(n, dtype=np.uint64),
                indices=indices,
                logprobs=logprobs,
                tail=tail,
                proof=1,
            )
    (path / "proofs/writer.lock").unlink()
    old = Path(__file__).parents[2] / "tests/logitstore/golden/v1-hybrid.zarr"

    def use(copy: Path) -> None:
        errors = []
        for work in (_check, _read_rows, _describe, _copy_store):
            try:
                work(copy)
            except logitstore.StoreError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    files = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    shards = {name: data for name, data in files.items() if "/c/" in name}
    documents = {name: data for name, data in files.items() if name.endswith("/zarr.json")}
    old_files = {str(p.relative_to(old)): p.read_bytes() for p in old.rglob("*") if p.is_file()}
    return [
        Reader(name="store root", kind="root", files={"zarr.json": files["zarr.json"]}, read=_in_place(path, use)),
        Reader(name="store arrays' metadata", kind="json", files=documents, read=_in_place(path, use)),
        Reader(name="store shards", kind="shard", files=shards, read=_in_place(path, use)),
        Reader(name="store of version 1", kind="bytes", files=old_files, read=_in_place(old, use)),
        Reader(
            name="imported logits", kind="bytes", files=_published(valid), read=_in_place(valid / "logits", _import)
        ),
    ]


def _check(path: Path) -> None:
    logitstore.check(path).to_json()


def _read_rows(path: Path) -> None:
    store = logitstore.open(path)
    for epoch in range(min(store.spec.num_epochs, 3)):
        rows = store.read(epoch=epoch, rows=range(min(store.spec.num_samples, 16)))
        rows.dense()
    store.keys(range(min(store.spec.num_samples, 16)))
    store.labels(range(min(store.spec.num_samples, 16)))
    store.tail_model()


def _describe(path: Path) -> None:
    from logitstore.tools.describe import describe_row, describe_store
    from logitstore.tools.stats import statistics

    store = logitstore.open(path)
    json.dumps(describe_store(store))
    json.dumps(describe_row(store, epoch=0, row=0))
    json.dumps(statistics(store, blocks=2))


def _copy_store(path: Path) -> None:
    try:
        logitstore.copy(path, path.with_name("new.zarr"))
    finally:
        shutil.rmtree(path.with_name("new.zarr"), ignore_errors=True)


def _published(valid: Path) -> dict[str, bytes]:
    folder = valid / "logits/logits_top2_epoch0"
    folder.mkdir(parents=True)
    (folder / "rank0-keys.txt").write_text("n01/a.jpg\nn01/b.jpg\n")
    records = [(1234, [3, 1], [0.5, 0.25]), (-99, [2, 7], [0.75, 0.125])]
    record = [("seed", "<i4"), ("indices", "<i2", 2), ("values", "<f2", 2)]
    np.array(records, record).tofile(folder / "rank0-values.bin")
    return {f"{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}


def _import(source: Path) -> None:
    target = source.with_name("imported.zarr")
    try:
        import_tinyvit(source, target, num_classes=8)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _photograph(seed: int = 0, side: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side + 10, 3), np.uint8)


def _packed(valid: Path) -> list[Reader]:
    for number in range(12):
        path = valid / "images" / "abc"[number % 3] / f"{number}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), _photograph(number))
    pack(valid / "images", valid / "packed", rows_per_shard=5)
    files = {f"catalog/{p.name}": p.read_bytes() for p in (valid / "packed/catalog").iterdir()}
    shards = {p.name: p.read_bytes() for p in (valid / "packed").glob("*.tar")}

    def use(copy: Path) -> None:
        catalog = open_catalog(copy)
        with ShardReader(catalog) as reader:
            for row in range(len(catalog)):
                catalog.key(row)
                EncodedImage(reader.read(row)).pixels()

    head = {"catalog/catalog.json": files.pop("catalog/catalog.json")}
    reader = _in_place(valid / "packed", use)
    return [
        Reader(name="catalog head", kind="head", files=head, read=reader),
        Reader(name="catalog arrays", kind="bytes", files=files, read=reader),
        Reader(name="tar shards", kind="bytes", files=shards, read=reader),
    ]


def _images() -> list[Reader]:
    image = Image.fromarray(_photograph())
    files = {}
    for kind, options in {
        "JPEG": {}, "PNG": {}, "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}, "PPM": {},
    }.items():  # fmt: skip
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[kind] = buffer.getvalue()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", progressive=True)
    files["progressive"] = buffer.getvalue()

    def use(folder: Path, name: str, data: bytes) -> None:
        with contextlib.suppress(DamagedImage):
            encoded = EncodedImage(data)
            encoded.pixels(rows=9)
            if encoded.is_jpeg:
                encoded.pixels(factor=2)
        with contextlib.suppress(DamagedImage):
            decode_rgba(data)
        decode(data)

    return [Reader(name="images", kind="bytes", files=files, read=use)]


def _archives(valid: Path) -> list[Reader]:
    images = sorted((valid / "images").rglob("*.jpg"))
    tar, outer, zipped = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        for path in images:
            file.add(path, f"a/{path.name}")
    with tarfile.open(fileobj=outer, mode="w") as file:
        for name in ("n01440764.tar", "n01443537.tar"):
            info = tarfile.TarInfo(name)
            info.size = len(tar.getvalue())
            file.addfile(info, io.BytesIO(tar.getvalue()))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in images:
            archive.write(path, f"a/{path.name}")

    def use(folder: Path, name: str, data: bytes) -> None:
        path = folder / name
        path.write_bytes(data)
        listing = list_source(path)
        for n in range(min(len(listing.keys), 50)):
            with contextlib.suppress(DamagedImage):
                listing.images.read(n, os.fsdecode(listing.keys[n]))

    files = {"x.tar": tar.getvalue(), "outer.tar": outer.getvalue(), "x.zip": zipped.getvalue()}
    return [Reader(name="archives", kind="bytes", files=files, read=use)]


def _weights(valid: Path) -> list[Reader]:
    torch.manual_seed(0)
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    ours, saved = valid / "student.safetensors", valid / "teacher.safetensors"
    models.save_weights(net, ours, metadata={"mean": "[0, 0, 0]", "std": "[1, 1, 1]", "class_names": '["a", "b", "c"]'})
    teacher = models.build_teacher(kind="efficientnet_lite0", image_size=64)
    models.save_teacher(teacher, saved, weight_cd=torch.zeros(3, 1280), bias_c=torch.zeros(3), class_names=list("abc"))
    torch.save({"model": net.state_dict()}, valid / "student.pth")
    torch.save(net.state_dict(), valid / "old.pth", _use_new_zipfile_serialization=False)
    tensors = safetensors.torch.load_file(ours)
    small = {name: tensor for name, tensor in tensors.items() if tensor.numel() < 500}
    header = {"format": "distill.teacher", "format_version": "1"} | {
        name: json.dumps(value)
        for name, value in {
            "architecture": "resnet10t", "name": "x", "num_classes": 3, "image_size": 64, "mean": [0, 0, 0],
            "std": [1, 1, 1], "crop": 1, "interpolation": "bicubic", "class_names": ["a", "b", "c"],
        }.items()
    }  # fmt: skip
    safetensors.torch.save_file(small, valid / "small.safetensors", metadata=header)

    def describe(path: Path) -> None:
        models.build_teacher(kind="tiny_vit", weights=path)

    def build_saved(path: Path) -> None:
        models.build_teacher(kind="saved", weights=path)

    def bytes_of(*names: str) -> dict[str, bytes]:
        return {name: (valid / name).read_bytes() for name in names}

    return [
        Reader(
            name="student weights", kind="bytes", files=bytes_of("student.safetensors"),
            read=_file("w.safetensors", describe),
        ),
        Reader(
            name="saved teachers", kind="bytes", files=bytes_of("small.safetensors"),
            read=_file("t.safetensors", build_saved),
        ),
        Reader(
            name="torch files", kind="bytes", files=bytes_of("student.pth", "old.pth"),
            read=_file("w.pth", read_tensors),
        ),
    ]  # fmt: skip


def _runs(valid: Path) -> list[Reader]:
    run = valid / "run"
    words = ["student=tiny_vit_micro", f"data.path={valid / 'packed'}", f"run.dir={run}"]
    run_dir.prepare(load("train_student", TrainStudentConfig, words))
    log = MetricLog(run / run_dir.METRICS, resume_step=0)
    for step in range(1, 6):
        log.write({"step": step, "epoch": step / 5, "loss": 2.0, "lr": 0.1})
    log.write({"step": 5, "epoch": 1.0, "top1": 50.0, "top5": 90.0, "loss": 1.0, "num_images": 10})
    log.close()
    (run / run_dir.SUMMARY).write_text(json.dumps({"top1": 50.0, "seconds": 3.0, "steps": 5}))
    state = {"step": 5, "model": {"a": torch.zeros(3)}, "fingerprint": "x", "division": {"rows": 4}, "seconds": 1.0}
    save_checkpoint(valid / "checkpoints", state, step=5, keep=1)
    checkpoint = (valid / "checkpoints/step-00000005.pt").read_bytes()
    files = {name: (run / name).read_bytes() for name in (run_dir.CONFIG, run_dir.METRICS, run_dir.SUMMARY)}

    def use_config(copy: Path) -> object:
        return run_dir.read_config(copy)

    def use_metrics(copy: Path) -> None:
        lines = read_metrics(copy / run_dir.METRICS)
        json.dumps(lines, allow_nan=False)
        curves.read_run(str(copy))
        MetricLog(copy / run_dir.METRICS, resume_step=3).close()

    def use_summary(copy: Path) -> object:
        return read_json_object(copy / run_dir.SUMMARY)

    def one(name: str) -> dict[str, bytes]:
        return {name: files[name]}

    return [
        Reader(name="run configuration", kind="yaml", files=one(run_dir.CONFIG), read=_in_place(run, use_config)),
        Reader(name="run metrics", kind="jsonl", files=one(run_dir.METRICS), read=_in_place(run, use_metrics)),
        Reader(name="run summary", kind="json", files=one(run_dir.SUMMARY), read=_in_place(run, use_summary)),
        Reader(
            name="checkpoints", kind="checkpoint", files={"c.pt": checkpoint}, read=_file("c.pt", load_checkpoint)
        ),
        *_search(valid),
    ]  # fmt: skip


def _search(valid: Path) -> list[Reader]:
    search = valid / "search"
    (search / "candidates").mkdir(parents=True)
    (search / "rounds").mkdir()
    config = models.build("tiny_vit", num_classes=3, image_size=32, **TINY).config.to_json()
    candidate = {"name": "00-00", "parent": None, "config": config, "costs": {"params": 1.0}}
    scores = {"loss": 1.0, "agreement": 2.0, "steps": 3, "seconds": 4.0}
    (search / "candidates/00-00.json").write_text(json.dumps(candidate | scores))
    (search / "rounds/00.json").write_text(json.dumps({"number": 0, "limits": {}, "candidates": [candidate]}))
    probe: dict[str, Any] = {name: {} for name in (*results._SCOPE, results.SCORES)}

    def use(copy: Path) -> None:
        SearchDir(copy).read_result("00-00")
        SearchDir(copy).read_round(0)

    files = {str(p.relative_to(search)): p.read_bytes() for p in search.rglob("*.json")}
    return [
        Reader(name="contraction searches", kind="json", files=files, read=_in_place(search, use)),
        Reader(
            name="probe results", kind="json", files={"r.json": json.dumps(probe).encode()},
            read=_file("r.json", results._read),
        ),
    ]  # fmt: skip


def _lists() -> list[Reader]:
    coco = {
        "images": [{"id": 1, "file_name": "a/b.jpg"}, {"id": 2, "file_name": "c.jpg"}],
        "categories": [{"id": 7, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "iscrowd": 0}],
    }

    def classes(path: Path) -> object:
        return classes_by_name(path, ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"])

    lists = {
        "two": b"ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4\n"
        b"ILSVRC2012_val_00000002,n01443537 1\n",
        "one": b"n01440764\nn01443537\n",
    }
    return [
        Reader(
            name="COCO annotations", kind="json", files={"c.json": json.dumps(coco).encode()},
            read=_file("c.json", read_annotations),
        ),
        Reader(name="class lists", kind="bytes", files=lists, read=_file("classes.txt", classes)),
        Reader(
            name="ReaL labels", kind="json", files={"r.json": b"[[1], [], [2, 3]]"},
            read=_file("r.json", lambda path: _are_class_lists(read_json(path))),
        ),
        Reader(
            name="YAML", kind="yaml", files={"y.yaml": yaml.safe_dump({"a": {"b": [1, 2]}, "c": "x"}).encode()},
            read=_file("y.yaml", _yaml),
        ),
    ]  # fmt: skip


def _yaml(path: Path) -> object:
    from distill.files import read_yaml_mapping

    return read_yaml_mapping(path)
