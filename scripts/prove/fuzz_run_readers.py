"""Readers of weights, runs and lists, for `fuzz.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml

from distill import models
from distill.config import TrainStudentConfig
from distill.config.command import load
from distill.contraction.search_dir import SearchDir
from distill.data.packing.class_lists import classes_by_name
from distill.evaluation.real_labels import _are_class_lists
from distill.files import read_json, read_json_object
from distill.models.weights.tensor_files import read_tensors
from distill.page import curves
from distill.probes import results
from distill.runs import run_dir
from distill.runs.checkpoint import load_checkpoint, save_checkpoint
from distill.runs.metric_log import MetricLog, read_metrics
from scripts.detector.coco import read_annotations
from scripts.prove.fuzz_reader import Reader, file, in_place

TINY: dict[str, Any] = {"dims": [8, 16, 24, 32], "depths": [1] * 4, "heads": [1, 1, 2, 2], "windows": [4] * 4}


def run_readers(valid: Path) -> list[Reader]:
    """Of weights, run folders and lists. `valid` is a folder for valid data."""
    return [*_weights(valid), *_runs(valid), *_lists()]


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
            read=file("w.safetensors", describe),
        ),
        Reader(
            name="saved teachers", kind="bytes", files=bytes_of("small.safetensors"),
            read=file("t.safetensors", build_saved),
        ),
        Reader(
            name="torch files", kind="bytes", files=bytes_of("student.pth", "old.pth"),
            read=file("w.pth", read_tensors),
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
        Reader(name="run configuration", kind="yaml", files=one(run_dir.CONFIG), read=in_place(run, use_config)),
        Reader(name="run metrics", kind="jsonl", files=one(run_dir.METRICS), read=in_place(run, use_metrics)),
        Reader(name="run summary", kind="json", files=one(run_dir.SUMMARY), read=in_place(run, use_summary)),
        Reader(
            name="checkpoints", kind="checkpoint", files={"c.pt": checkpoint}, read=file("c.pt", load_checkpoint)
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
        Reader(name="contraction searches", kind="json", files=files, read=in_place(search, use)),
        Reader(
            name="probe results", kind="json", files={"r.json": json.dumps(probe).encode()},
            read=file("r.json", results._read),
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
            read=file("c.json", read_annotations),
        ),
        Reader(name="class lists", kind="bytes", files=lists, read=file("classes.txt", classes)),
        Reader(
            name="ReaL labels", kind="json", files={"r.json": b"[[1], [], [2, 3]]"},
            read=file("r.json", lambda path: _are_class_lists(read_json(path))),
        ),
        Reader(
            name="YAML", kind="yaml", files={"y.yaml": yaml.safe_dump({"a": {"b": [1, 2]}, "c": "x"}).encode()},
            read=file("y.yaml", _yaml),
        ),
    ]  # fmt: skip


def _yaml(path: Path) -> object:
    from distill.files import read_yaml_mapping

    return read_yaml_mapping(path)
