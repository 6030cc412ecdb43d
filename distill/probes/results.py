"""Results in a folder, one JSON file per model, and the table that compares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.errors import DistillError
from distill.files import read_json_object, write_file

SCORES = "scores"
_SCOPE = ("subject", "data", "settings")
"""What scores belong to (`subject`: the probed model). Results with equal data and settings are compared."""


def read_scores(out: Path, name: str, result: dict[str, Any]) -> dict[str, Any]:
    """The scores that are in OUT/NAME.json, none if there is no such file.

    **Raises:** `DistillError` if the file belongs to another model, other data or other settings than `result`.
    """
    path = out / f"{name}.json"
    if not path.exists():
        return {}
    stored = _read(path)
    if different := [part for part in _SCOPE if stored[part] != result[part]]:
        raise DistillError(
            f"{path} holds results with another {' and '.join(different)}, and was not changed: take another name= "
            "or out="
        )
    return dict(stored[SCORES])


def write(out: Path, name: str, result: dict[str, Any]) -> None:
    """Writes OUT/NAME.json, whole or not at all. **Raises:** `DistillError` where it cannot be written."""
    write_file(out / f"{name}.json", json.dumps(result, indent=1) + "\n")


def table(out: Path, like: dict[str, Any]) -> str:
    """All results of a folder that have the same data and settings as `like`, one line per model."""
    results = {path.stem: _read(path) for path in sorted(out.glob("*.json"))}
    shown = {name: result for name, result in results.items() if _comparable(result, like)}
    cells = {name: _cells(result) for name, result in shown.items()}
    columns = sorted({column for line in cells.values() for column in line})
    head = ["model", *(text for _, text in columns)]
    lines = [[name, *(line.get(column, "-") for column in columns)] for name, line in cells.items()]
    text = "\n".join(_aligned([head, *lines]))
    if hidden := [name for name in results if name not in shown]:
        text += f"\n(on other data or with other settings, and not shown: {', '.join(hidden)})"
    return text


def _comparable(result: dict[str, Any], like: dict[str, Any]) -> bool:
    return bool(result["data"] == like["data"] and result["settings"] == like["settings"])


def _cells(result: dict[str, Any]) -> dict[tuple[int, str], str]:
    """The cells of a line by position and head of their column."""
    probed, scores, ways = result["subject"], result[SCORES], result["settings"]["few_shot"]["ways"]
    cells = {
        (0, "px"): str(probed["image_size"]),
        (1, "params M"): f"{probed['params'] / 1e6:.2f}",
        (2, "MACs G"): f"{probed['macs'] / 1e9:.3g}",
    }
    for k, score in scores.get("knn", {}).items():
        cells[1_000 + int(k), f"{k}-NN"] = f"{score['top1']:.2f}"
    if "linear" in scores:
        cells[1_000_000, "linear"] = f"{scores['linear']['top1']:.2f}"
    for shots, score in scores.get("few_shot", {}).items():
        cells[2_000_000 + int(shots), f"{ways}-way {shots}-shot"] = f"{score['mean']:.2f} ± {score['interval']:.2f}"
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
        result = read_json_object(path)
    except FileNotFoundError as error:
        raise DistillError(f"cannot read the results in {path}: {error.strerror}") from None
    if any(part not in result for part in (*_SCOPE, SCORES)):
        raise DistillError(f"{path} does not hold results of distill.transfer: take another out=")
    return result
