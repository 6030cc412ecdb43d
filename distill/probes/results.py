"""Results in a folder, a JSON file a model, and the table in which they stand side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.errors import DistillError

SCORES = "scores"
_WHO = ("subject", "data", "settings")
"""What a file's scores are of; results are compared where data and settings are the same."""


def check(out: Path, name: str, result: dict[str, Any]) -> dict[str, Any]:
    """The scores that OUT/NAME.json holds already, none if it is not there.

    **Raises:** `DistillError` if it is about another model, other data or other settings.
    """
    path = out / f"{name}.json"
    if not path.exists():
        return {}
    there = _read(path)
    if different := [part for part in _WHO if there[part] != result[part]]:
        raise DistillError(
            f"{path} holds results with another {' and '.join(different)}, and was not changed: take another name= "
            "or out="
        )
    return dict(there[SCORES])


def write(out: Path, name: str, result: dict[str, Any]) -> None:
    """Writes OUT/NAME.json, whole or not at all. **Raises:** `DistillError` where it cannot be written."""
    path = out / f"{name}.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(path)
    except OSError as error:
        raise DistillError(f"cannot write {path}: {error.strerror}") from None


def table(out: Path, like: dict[str, Any]) -> str:
    """All results of a folder that are on the same data and with the same settings as `like`, a line a model."""
    every = {path.stem: _read(path) for path in sorted(out.glob("*.json"))}
    shown = {name: result for name, result in every.items() if _comparable(result, like)}
    cells = {name: _cells(result) for name, result in shown.items()}
    columns = sorted({column for line in cells.values() for column in line})
    head = ["model", *(text for _, text in columns)]
    lines = [[name, *(line.get(column, "-") for column in columns)] for name, line in cells.items()]
    text = "\n".join(_aligned([head, *lines]))
    if hidden := [name for name in every if name not in shown]:
        text += f"\n(on other data or with other settings, and not shown: {', '.join(hidden)})"
    return text


def _comparable(result: dict[str, Any], like: dict[str, Any]) -> bool:
    return bool(result["data"] == like["data"] and result["settings"] == like["settings"])


def _cells(result: dict[str, Any]) -> dict[tuple[int, str], str]:
    """The cells of a line by place and head of their column."""
    subject, scores, settings = result["subject"], result[SCORES], result["settings"]
    ways = settings["few_shot"]["ways"]
    cells = {
        (0, "px"): str(subject["image_size"]),
        (1, "params M"): f"{subject['params'] / 1e6:.2f}",
        (2, "MACs G"): f"{subject['macs'] / 1e9:.3g}",
    }
    for number, found in scores.get("knn", {}).items():
        cells[1_000 + int(number), f"{number}-NN"] = f"{found['top1']:.2f}"
    if "linear" in scores:
        cells[1_000_000, "linear"] = f"{scores['linear']['top1']:.2f}"
    for number, found in scores.get("few_shot", {}).items():
        cells[2_000_000 + int(number), f"{ways}-way {number}-shot"] = f"{found['mean']:.2f} ± {found['interval']:.2f}"
    if "finetune" in scores:
        cells[3_000_000, "fine-tuned"] = f"{scores['finetune']['top1']:.2f}"
    return cells


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DistillError(f"cannot read the results in {path}: {error}") from None
    if not isinstance(result, dict) or any(part not in result for part in (*_WHO, SCORES)):
        raise DistillError(f"{path} does not hold results of distill.transfer: take another out=")
    return result
