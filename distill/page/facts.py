"""The store in figures and in words: tiles at the top of the page, and tables of all its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distill.page.scan import Scan
from logitstore.commands.terminal import human_bytes

_LONGEST_LIST = 8


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure in large type, with a line below it."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class Table:
    """Names and values, a line each."""

    title: str
    rows: tuple[tuple[str, str], ...]


def store_tiles(description: Mapping[str, Any], scanned: Scan) -> list[Tile]:
    """The figures at the top. **Arguments:** `description`: of `logitstore.tools.describe.describe_store`."""
    spec = description["spec"]
    total, done = description["blocks_total"], description["blocks_committed"]
    blocks = "block" if total == 1 else "blocks"
    per_view = description["bytes_per_view"]
    about = "" if description["bytes_are_exact"] else "about "
    tiles = [
        Tile(
            "Views",
            f"{description['views_committed']:,}",
            f"{spec['num_samples']:,} rows, {spec['num_epochs']:,} epochs",
        ),
        Tile("Written", f"{_whole_percent(done, total)} %", f"{done:,} of {total:,} {blocks}"),
        Tile("Top-k", f"{spec['topk']:,} of {spec['num_classes']:,}", _selection(spec)),
        Tile(
            "Size",
            f"{about}{human_bytes(description['bytes_total'])}",
            f"{about}{per_view:.1f} bytes per view" if per_view else "",
        ),
    ]
    if scanned.views > scanned.empty:
        topk_mass, entropy, top1 = (scanned.histograms[name].mean for name in ("kept_mass", "entropy", "top1"))
        tiles.append(Tile("Mass of the top-k", f"{100 * topk_mass:.1f} %", "mean over the views read"))
        tiles.append(Tile("Top-1 probability", f"{100 * top1:.1f} %", f"mean; entropy {entropy:.2f} nats"))
    if scanned.by_label and scanned.labelled:
        accuracy = scanned.correct / scanned.labelled
        tiles.append(Tile("Teacher accuracy", f"{100 * accuracy:.1f} %", "top-1 class is the label"))
    return tiles


def store_tables(description: Mapping[str, Any]) -> list[Table]:
    """All metadata of the store. **Arguments:** as for `store_tiles`."""
    spec = description["spec"]
    plain = {name: value for name, value in spec.items() if not isinstance(value, dict)}
    first = {"path": description["path"], "format_version": description["format_version"], **plain}
    parts = [("Store", first), *((name.capitalize(), spec[name]) for name in ("teacher", "data", "view", "software"))]
    return [
        Table(title, tuple((name, _text(value)) for name, value in _leaves(part)) or (("", "Nothing is recorded."),))
        for title, part in parts
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(name, value) of every value in nested mappings; names of mappings are prefixes."""
    leaves: list[tuple[str, Any]] = []
    for name, value in tree.items():
        full_name = f"{prefix}{name}".replace("_", " ")
        leaves += _leaves(value, f"{prefix}{name}, ") if isinstance(value, dict) else [(full_name, value)]
    return leaves


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) > _LONGEST_LIST:
        return f"{', '.join(map(str, value[:4]))}, ... ({len(value):,})"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _selection(spec: Mapping[str, Any]) -> str:
    text = {"topk": "classes, the most probable", "sample": "classes at most, drawn", "hybrid": "classes, some drawn"}
    return f"{text.get(spec['selection'], spec['selection'])}; {spec['encoding']}"


def _whole_percent(part: int, total: int) -> str:
    """100 only where it is all, 0 only where it is nothing."""
    return f"{min(max(round(100 * part / total), 1), 99)}" if 0 < part < total else f"{100 * part // total}"
