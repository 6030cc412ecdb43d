"""The model card: a Markdown page beside an exported file, on its network, use, scores and origin."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import Any

import timm
import torch

from distill import models
from distill.exporting.source import ExportSource
from distill.models.deploy.onnx import INPUT, OUTPUT
from distill.models.weights.tensor_files import file_sha256
from distill.models.weights.timm_names import published_name, timm_model
from logitstore.untrusted import printable


def model_card(source: ExportSource, *, path: Path, format: str, difference: float | None) -> str:
    """The card as Markdown.

    **Arguments:** `path`, `format`: of the exported file, which exists; `difference`: for an ONNX file, the largest
    difference of a logit from torch's, as a fraction of the largest logit.
    """
    name = published_name(source.net.config) or "tiny_vit"
    parts = [
        f"# {_text(path.name)}\n\n{_network(source, name)}",
        f"## Use\n\n{_use(source, path, format, difference)}",
        f"## Input\n\n{_input(source)}",
        f"## Scores\n\n{_scores(source)}",
        f"## Where it comes from\n\n{_origin(source)}",
        f"## File\n\n{_file(path, format)}",
    ]
    if source.run:
        parts.append(f"## Configuration of the run\n\n{_fenced(source.run)}")
    return "\n\n".join(parts) + "\n"


def _network(source: ExportSource, name: str) -> str:
    net, config = source.net, source.net.config
    macs = models.count_macs(net, config.image_size)
    rows = {
        "model": f"{name} (TinyViT, arXiv 2207.10666)",
        "classes": f"{config.num_classes:,}",
        "image": f"{config.image_size} x {config.image_size}",
        "windows": ", ".join(map(str, config.windows[1:])),
        "parameters": f"{models.count_params(net) / 1e6:.2f} M",
        "multiply-accumulates": f"{macs / 1e9:.2f} G" if macs > 1e9 else f"{macs / 1e6:.1f} M",
    }
    return _table(rows)


def _use(source: ExportSource, path: Path, format: str, difference: float | None) -> str:
    side = source.net.config.image_size
    if format == "onnx":
        return (
            f"Input `{INPUT}`: float32 (batch, 3, {side}, {side}), normalised as below; output `{OUTPUT}`: float32 "
            f"(batch, {source.net.num_classes}). The batch size is free. Compared with torch in onnxruntime when it "
            f"was written: logits differ by at most {difference:.1e} of the largest.\n\n"
            f"```python\nimport onnxruntime\n\nsession = onnxruntime.InferenceSession({path.name!r})\n"
            f"(logits,) = session.run(None, {{{INPUT!r}: pixels}})\n```"
        )
    if format == "timm":
        architecture, arguments = timm_model(source.net.config)
        more = "".join(f", {key}={value!r}" for key, value in arguments.items())
        call = f"timm.create_model({architecture!r}, checkpoint_path={path.name!r}{more})"
        return f"```python\nimport timm\n\nnet = {call}.eval()\n```"
    return (
        "```python\nfrom distill import models\n\n"
        f"model = models.build_teacher(kind='tiny_vit', weights={path.name!r})\n"
        "logits = model.net(pixels)\n```"
    )


def _input(source: ExportSource) -> str:
    model = source.model
    return _table(
        {
            "channels": "red, green, blue, values in 0..1, then (value - mean) / std",
            "mean": ", ".join(f"{value:g}" for value in model.mean),
            "std": ", ".join(f"{value:g}" for value in model.std),
            "evaluation crop": f"{model.crop:g} of the resized image's side",
            "interpolation": model.interpolation,
        }
    )


def _scores(source: ExportSource) -> str:
    if not source.scores:
        return "None are recorded with these weights."
    names = {"top1": "top-1 %", "top5": "top-5 %", "loss": "cross entropy", "num_images": "images"}
    named = {text: f"{source.scores[name]:.6g}" for name, text in names.items() if name in source.scores}
    others = {
        name: str(value) for name, value in source.scores.items() if name not in names and not isinstance(value, dict)
    }
    note = "\n\nOf the weights as they were trained, before the changes listed below." if source.changes else ""
    return _table(named | others) + note


def _origin(source: ExportSource) -> str:
    rows = {"weights": source.weights.name, "their SHA-256": source.model.weights_sha256}
    rows |= {f"change {n}": text for n, text in enumerate(source.changes, 1)}
    for part in ("data", "store", "teacher", "software"):
        rows |= {f"{part}: {key}": _plain(value) for key, value in (source.history.get(part) or {}).items()}
    text = _table(rows)
    if not source.history:
        text += "\n\nThe file does not record what it was trained on."
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


def _text(value: object) -> str:
    """Text as it stands in a table's cell: what came with the weights is no Markdown, HTML or link of this page."""
    return re.sub(r"[\\`<>\[\]|&]", r"\\\g<0>", printable(str(value)))


def _fenced(text: str) -> str:
    """Text in a block of code, whatever it holds: the fence is longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}yaml\n{printable(text.strip(), keep=chr(10))}\n{fence}"


def _table(rows: dict[str, str]) -> str:
    lines = [f"| {_text(key)} | {_text(value)} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
