"""Inspect a store: `info`, `show`, `check`."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from logitstore import open as open_store
from logitstore.commands.terminal import AS_JSON, STORE, console, print_json, print_pairs, progress_bar
from logitstore.tools import describe
from logitstore.tools.check import Report
from logitstore.tools.check import check as check_store
from logitstore.untrusted import printable


@click.command()
@STORE
@AS_JSON
def info(store: str, as_json: bool) -> None:
    """Show what a store holds: sizes, provenance, coverage, bytes.

    \b
    Example:
      logitstore info teacher.zarr
    """
    with open_store(store) as opened:
        facts = describe.describe_store(opened)
    if as_json:
        print_json(facts)
    else:
        _print_info(facts)


@click.command()
@STORE
@click.option("--epoch", type=click.IntRange(min=0), default=0, show_default=True, help="Stored epoch.")
@click.option("--row", type=click.IntRange(min=0), required=True, help="Row of the catalog.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the packed data set: shows the sample's key.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Classes to print.")
@AS_JSON
def show(store: str, epoch: int, row: int, data: Path | None, top: int, as_json: bool) -> None:
    """Show one view: key, label, seed, the teacher's top-k classes, and the tail.

    With --json all k classes are printed, whatever --top says.

    \b
    Example:
      logitstore show teacher.zarr --epoch 0 --row 12 --data packed/train
    """
    with open_store(store) as opened:
        facts = describe.describe_row(opened, epoch=epoch, row=row, data=data)
    if as_json:
        print_json(facts)
    else:
        _print_row(facts, top=top)


@click.command()
@STORE
@AS_JSON
def check(store: str, as_json: bool) -> None:
    """Read a whole store and list its faults: structure, coverage, checksums, values.

    Exit code 0 when there are none, 1 when there are any.

    \b
    Example:
      logitstore check teacher.zarr
    """
    with progress_bar(shown=not as_json) as bar:
        report = check_store(store, progress=lambda at, of: bar("checking blocks", at, of))
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    sys.exit(0 if report.ok else 1)


def _print_info(facts: dict[str, Any]) -> None:
    spec = facts["spec"]
    about = "" if facts["bytes_are_exact"] else "about "
    rows = [
        ("store", f"{facts['path']} (format version {facts['format_version']})"),
        ("views", f"{spec['num_samples']:,} samples x {spec['num_epochs']} epochs"),
        ("classes", _classes_text(spec)),
        ("blocks", f"{facts['blocks_committed']:,} of {facts['blocks_total']:,}, {spec['rows_per_block']:,} rows each"),
        ("store seed", str(spec["store_seed"])),
        *((f"epoch {epoch} lacks", f"blocks {blocks}") for epoch, blocks in _first(facts["epochs_incomplete"], 5)),
    ]
    for name in ("teacher", "data", "view", "software"):
        rows += [(f"{name}.{key}", _brief(value)) for key, value in spec[name].items()]
    rows += [(f"bytes {name}", f"{about}{size:,}") for name, size in facts["bytes_by_array"].items()]
    rows.append(("bytes", f"{about}{facts['bytes_total']:,}"))
    if facts["bytes_per_view"] is not None:
        extra = f"and {facts['bytes_per_sample']:.2f} once per sample"
        rows.append(("bytes per view", f"{about}{facts['bytes_per_view']:.2f} {extra}"))
    print_pairs(rows)
    if facts["limits"]:
        click.echo(f"note: {facts['limits']}")


def _classes_text(spec: dict[str, Any]) -> str:
    """How classes are selected and stored, in words."""
    text = f"{spec['topk']} of {spec['num_classes']:,} classes, {spec['selection']}, {spec['encoding']}"
    if spec["draws"]:
        text += f", {spec['draws']} draws"
    if spec["max_mass"] < 1:
        text += f", up to a mass of {spec['max_mass']:g}"
    return text + (f", tail learned in {spec['tail_groups']:,} groups" if spec["tail_groups"] else "")


def _print_row(facts: dict[str, Any], *, top: int) -> None:
    label = str(facts["label"]) if facts["label"] >= 0 else "unknown"
    rows = [
        ("view", f"epoch {facts['epoch']}, row {facts['row']} (block {facts['block']})"),
        ("key", f"{facts['key'] or 'shown with --data'} (hash {facts['key_hash']})"),
        ("label", f"{label} {facts['label_name'] or ''}".rstrip()),
        ("seed", str(facts["seed"])),
    ]
    print_pairs(rows)
    table = Table("class", "name", "probability", box=None)
    table.columns[0].justify = table.columns[2].justify = "right"
    classes = facts["classes"]
    for entry in classes[:top]:
        drawn = "  drawn" if entry["drawn"] else ""
        table.add_row(str(entry["class"]), printable(entry["name"] or ""), f"{entry['probability']:.6f}{drawn}")
    if len(classes) > top:
        rest = sum(entry["probability"] for entry in classes[top:])
        table.add_row("", f"{len(classes) - top} more of the top-k", f"{rest:.6f}")
    table.add_row("", "tail, all other classes", f"{facts['tail_probability']:.6f}")
    console().print(table)


def _print_report(report: Report) -> None:
    screen = console()
    for kind, findings in (("fault", report.faults), ("note", report.notes)):
        for finding in findings:
            screen.print(printable(f"{kind} {finding.id}: {finding.message}"), soft_wrap=True)
    verdict = "good" if report.ok else f"{len(report.faults)} faults"
    blocks = f"{report.blocks_committed:,} of {report.blocks_total:,} blocks committed"
    screen.print(printable(f"{report.path}: {verdict}; {blocks}"), soft_wrap=True)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:90]}... ({len(value)} items)" if isinstance(value, list) else text


def _first(items: dict[str, str], most: int) -> list[tuple[str, str]]:
    return list(items.items())[:most]
