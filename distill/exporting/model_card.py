"""The model card: a page of Markdown beside an exported file that says what it is and where it comes from."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import timm
import torch

from distill import models
from distill.exporting.source import Subject
from distill.models.deploy.onnx import INPUT, OUTPUT
from distill.models.weights.tensor_files import file_sha256
from distill.models.weights.timm_names import published_name, timm_model


def model_card(subject: Subject, *, path: Path, format: str, difference: float | None) -> str:
    """The card's text.

    **Arguments:** `path`, `format`: of the exported file, which is there; `difference`: of an ONNX file's logits from
    torch's.
    """
    name = published_name(subject.net.config) or "tiny_vit"
    parts = [
        f"# {path.name}\n\n{_what(subject, name)}",
        f"## Use\n\n{_use(subject, path, format, difference)}",
        f"## Input\n\n{_input(subject)}",
        f"## Scores\n\n{_scores(subject)}",
        f"## Where it comes from\n\n{_origin(subject)}",
        f"## File\n\n{_file(path, format)}",
    ]
    if subject.run:
        parts.append(f"## Configuration of the run\n\n```yaml\n{subject.run.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def _what(subject: Subject, name: str) -> str:
    net, config = subject.net, subject.net.config
    macs = models.count_macs(net, config.image_size)
    rows = {
        "model": f"{name} (TinyViT, arXiv 2207.10666)",
        "classes": f"{config.num_classes:,}",
        "picture": f"{config.image_size} x {config.image_size}",
        "windows": ", ".join(map(str, config.windows[1:])),
        "parameters": f"{models.count_params(net) / 1e6:.2f} M",
        "multiply-accumulates": f"{macs / 1e9:.2f} G" if macs > 1e9 else f"{macs / 1e6:.1f} M",
    }
    return _table(rows)


def _use(subject: Subject, path: Path, format: str, difference: float | None) -> str:
    side = subject.net.config.image_size
    if format == "onnx":
        return (
            f"Input `{INPUT}`: float32 (batch, 3, {side}, {side}), normalised as below; output `{OUTPUT}`: float32 "
            f"(batch, {subject.net.num_classes}). The batch is free. Compared with torch in onnxruntime when it was "
            f"written: logits differ by at most {difference:.1e} of the largest.\n\n"
            f"```python\nimport onnxruntime\n\nsession = onnxruntime.InferenceSession({path.name!r})\n"
            f"(logits,) = session.run(None, {{{INPUT!r}: pixels}})\n```"
        )
    if format == "timm":
        architecture, arguments = timm_model(subject.net.config)
        given = "".join(f", {key}={value!r}" for key, value in arguments.items())
        call = f"timm.create_model({architecture!r}, checkpoint_path={path.name!r}{given})"
        return f"```python\nimport timm\n\nnet = {call}.eval()\n```"
    return (
        f"```python\nimport models\n\nmodel = models.build_teacher(kind='tiny_vit', weights={path.name!r})\n"
        "logits = model.net(pixels)\n```"
    )


def _input(subject: Subject) -> str:
    teacher = subject.teacher
    return _table(
        {
            "channels": "red, green, blue, values in 0..1, then (value - mean) / std",
            "mean": ", ".join(f"{value:g}" for value in teacher.mean),
            "std": ", ".join(f"{value:g}" for value in teacher.std),
            "evaluation crop": f"{teacher.crop:g} of the resized picture's side",
            "interpolation": teacher.interpolation,
        }
    )


def _scores(subject: Subject) -> str:
    if not subject.scores:
        return "None are recorded with these weights."
    names = {"top1": "top-1 %", "top5": "top-5 %", "loss": "cross entropy", "num_images": "images"}
    known = {text: f"{subject.scores[name]:.6g}" for name, text in names.items() if name in subject.scores}
    rest = {
        name: str(value) for name, value in subject.scores.items() if name not in names and not isinstance(value, dict)
    }
    note = "\n\nOf the weights as they were trained, before the changes named below." if subject.changes else ""
    return _table(known | rest) + note


def _origin(subject: Subject) -> str:
    rows = {"weights": subject.source.name, "their SHA-256": subject.teacher.weights_sha256}
    rows |= {f"change {n}": text for n, text in enumerate(subject.changes, 1)}
    for part in ("data", "store", "teacher", "software"):
        rows |= {f"{part}: {key}": _plain(value) for key, value in (subject.history.get(part) or {}).items()}
    text = _table(rows)
    if not subject.history:
        text += "\n\nThe file does not say what it was trained on."
    return text


def _file(path: Path, format: str) -> str:
    return _table(
        {
            "name": path.name,
            "format": format,
            "bytes": f"{path.stat().st_size:,}",
            "SHA-256": file_sha256(path),
            "written with": f"python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}",
        }
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _table(rows: dict[str, str]) -> str:
    lines = [f"| {key} | {value.replace('|', '/')} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
