"""Measures the way from JPEG files to pixels beside timm and torchvision, on one core.

    python scripts/bench_data.py                     # the table
    python scripts/bench_data.py --json data.json    # also a flat object of ratios and rates
    python scripts/bench_data.py --profile           # where a view's time goes
    python scripts/bench_data.py --operations        # each operation: time, and difference to Pillow

All rows take turns on the same files in one process with one thread each. A row's time is the CPU time of its thread.
A ratio is the median of the ratios within each turn, so other work on the machine disturbs it little.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import click
import cv2
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.bench.loader import loader_rows
from scripts.bench.pool import make_pool
from scripts.bench.transforms import Transform, ours, timms, torchvisions
from scripts.bench.view_profile import operation_rows, profile_rows

IMAGES = 48
"""Per turn of a row; a multiple of the number of sizes in the pool."""
MIN_TURNS = 5

Times = dict[str, list[float]]
"""Row -> milliseconds per image in each turn."""

RATIOS = {
    "view_vs_timm": ("timm whole, bicubic + bilinear", "view, bicubic + bilinear"),
    "view_vs_timm_uint8": ("timm uint8, bicubic + bilinear", "view, bicubic + bilinear"),
    "view_vs_torchvision": ("torchvision v2 uint8, bicubic + nearest", "view, bicubic + bilinear"),
    "view_vs_timm_all_bicubic": ("timm whole, bicubic + bicubic", "view, bicubic + bicubic"),
    "view_vs_timm_uint8_all_bicubic": ("timm uint8, bicubic + bicubic", "view, bicubic + bicubic"),
    "view_vs_timm_all_bilinear": ("timm whole, bilinear + bilinear", "view, bilinear + bilinear"),
    "view_vs_timm_uint8_all_bilinear": ("timm uint8, bilinear + bilinear", "view, bilinear + bilinear"),
    "view_vs_timm_recipe": ("timm whole, bicubic + bicubic", "view, bicubic + bilinear"),
    "view_vs_timm_uint8_recipe": ("timm uint8, bicubic + bicubic", "view, bicubic + bilinear"),
    "dct_vs_exact_at_128": ("view at 128, exact decoding", "view at 128, dct decoding"),
}
"""Key -> (slow row, fast row). The first three hold both sides to the same interpolations; `recipe` is timm with its
usual setting (one interpolation, bicubic, for resize and operations alike) against the default of a ViewSpec."""


@click.command()
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write ratios and rates to this file.")
@click.option("--seconds", default=60.0, show_default=True, help="Measure for about this long.")
@click.option("--files", default=96, show_default=True, help="JPEG files in the pool.")
@click.option("--profile", is_flag=True, help="Print a view's time by stage instead.")
@click.option("--operations", is_flag=True, help="Print each operation's time and difference to Pillow instead.")
@click.option("--no-loader", is_flag=True, help="Leave out the rows of bench/loader.py.")
def main(target: Path | None, seconds: float, files: int, profile: bool, operations: bool, no_loader: bool) -> None:
    """Measures views against timm and torchvision."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool"
        jpegs = [path.read_bytes() for path in make_pool(pool, count=files)]
        if profile or operations:
            title, head, rows = operation_rows(jpegs) if operations else profile_rows(jpegs)
            _print(title, head, rows)
            return
        times = take_turns({**ours(jpegs), **timms(jpegs), **torchvisions(jpegs)}, seconds=seconds)
        measured = ratios(times)
        _print_times(times)
        loader = {} if no_loader else loader_rows(pool)
        _print("Ratios (bigger is better)", ("key", "ratio"), [(k, f"{v:.3f}") for k, v in (measured | loader).items()])
    if target is not None:
        rates = {f"images_per_s: {name}": 1000 / min(turns) for name, turns in times.items()}
        target.write_text(json.dumps(measured | loader | rates, indent=1))


def take_turns(transforms: Mapping[str, Transform], *, seconds: float) -> Times:
    """Runs all rows in turn for `seconds`; the first round warms up and does not count."""
    times: Times = {name: [] for name in transforms}
    begin, number = time.monotonic(), 0
    while number <= MIN_TURNS or time.monotonic() - begin < seconds:
        for name, transform in transforms.items():
            start = time.thread_time()
            for index in range(number * IMAGES, (number + 1) * IMAGES):
                transform(index)
            if number:
                times[name].append((time.thread_time() - start) * 1000 / IMAGES)
        number += 1
    return times


def ratios(times: Times) -> dict[str, float]:
    """The ratios named in `RATIOS`: medians over turns."""
    pairs = {key: zip(times[slow], times[fast], strict=True) for key, (slow, fast) in RATIOS.items()}
    return {key: median(slow / fast for slow, fast in pair) for key, pair in pairs.items()}


def _print_times(times: Times) -> None:
    rows = [
        (name, f"{min(turns):.3f}", f"{median(turns):.3f}", f"{1000 / min(turns):.0f}") for name, turns in times.items()
    ]
    turns = len(next(iter(times.values())))
    title = f"One core, {IMAGES} images per turn, {turns} turns; interpolation of resize + geometric operations"
    _print(title, ("row", "min ms", "median ms", "images/s"), rows)


def _print(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
