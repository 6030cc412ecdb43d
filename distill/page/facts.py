"""What the store is, in figures and in words."""

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
    """One figure, large."""

    name: str
    value: str
    more: str


@dataclass(frozen=True, slots=True)
class Table:
    """Names and values."""

    title: str
    rows: tuple[tuple[str, str], ...]


def tiles(facts: Mapping[str, Any], found: Scan) -> list[Tile]:
    """The figures at the top. **Arguments:** `facts`: of `logitstore.tools.describe.describe_store`."""
    spec = facts["spec"]
    total, there = facts["blocks_total"], facts["blocks_committed"]
    blocks = "block" if total == 1 else "blocks"
    per_view = facts["bytes_per_view"]
    about = "" if facts["bytes_are_exact"] else "about "
    shown = [
        Tile("Views", f"{facts['views_committed']:,}", f"{spec['num_samples']:,} rows, {spec['num_epochs']:,} epochs"),
        Tile("Written", f"{_whole_percent(there, total)} %", f"{there:,} of {total:,} {blocks}"),
        Tile("Top-k", f"{spec['topk']:,} of {spec['num_classes']:,}", _selection(spec)),
        Tile(
            "Size",
            f"{about}{human_bytes(facts['bytes_total'])}",
            f"{about}{per_view:.1f} bytes a view" if per_view else "",
        ),
    ]
    if found.views > found.empty:
        kept, entropy, top1 = (found.spreads[name].mean for name in ("kept_mass", "entropy", "top1"))
        shown.append(Tile("Mass of the top-k", f"{100 * kept:.1f} %", "mean over the views read"))
        shown.append(Tile("First class", f"{100 * top1:.1f} %", f"mean probability; entropy {entropy:.2f} nats"))
    if found.by_label and found.labelled:
        shown.append(Tile("Teacher right", f"{100 * found.agreed / found.labelled:.1f} %", "first class is the label"))
    return shown


def tables(facts: Mapping[str, Any]) -> list[Table]:
    """Everything the store says of itself."""
    spec = facts["spec"]
    plain = {name: value for name, value in spec.items() if not isinstance(value, dict)}
    first = {"path": facts["path"], "format_version": facts["format_version"], **plain}
    parts = [("Store", first), *((name.capitalize(), spec[name]) for name in ("teacher", "data", "view", "software"))]
    return [
        Table(title, tuple((name, _text(value)) for name, value in _leaves(part)) or (("", "The store says nothing."),))
        for title, part in parts
    ]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        whole = f"{prefix}{name}".replace("_", " ")
        found += _leaves(value, f"{prefix}{name}, ") if isinstance(value, dict) else [(whole, value)]
    return found


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
    """Never 100 unless it is all, never 0 unless it is nothing."""
    return f"{min(max(round(100 * part / total), 1), 99)}" if 0 < part < total else f"{100 * part // total}"
