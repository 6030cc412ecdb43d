"""Proof that views replay: thousands of random views of real JPEGs, rendered under different conditions.

    python scripts/prove/replay.py run runs/replay --views 10000

JPEGs are made of photographs and packed, and the same views are rendered by the teacher pass's loader: in one process,
by one and by two loader workers, by two processes that each render a half (a restart), with all optional CPU
instructions of OpenCV, torch and libjpeg-turbo switched off, and with those up to AVX2. The pixels of each view are
digested (XXH3-64). Exits with 1 if one digest differs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from distill.data.batches import BlockBatches, BlockSlice
from distill.data.catalog import open_catalog
from distill.data.loader import load
from distill.data.packing.pack import pack
from distill.views import RandAugment, ViewSpec, pixel_digest
from scripts.bench.pool import make_pool

PHOTOS = 250
SIZE = 224
BATCH = 50
OPENCV_FEATURES = "SSSE3,SSE4.1,SSE4.2,POPCNT,AVX,FP16,FMA3,AVX2,AVX512-SKX"
NO_INSTRUCTIONS = {
    "OPENCV_CPU_DISABLE": OPENCV_FEATURES, "OPENCV_IPP": "disabled", "ATEN_CPU_CAPABILITY": "default",
    "JSIMD_FORCENONE": "1",
}  # fmt: skip
UP_TO_AVX2 = {"OPENCV_CPU_DISABLE": "AVX512-SKX", "ATEN_CPU_CAPABILITY": "avx2"}

# Name, loader workers, processes one after another, environment.
CONDITIONS: tuple[tuple[str, int, int, dict[str, str]], ...] = (
    ("in the process", 0, 1, {}),
    ("one loader worker", 1, 1, {}),
    ("two loader workers", 2, 1, {}),
    ("in two halves, one process each", 0, 2, {}),
    ("CPU instructions switched off", 0, 1, NO_INSTRUCTIONS),
    ("CPU instructions up to AVX2", 0, 1, UP_TO_AVX2),
)


def spec(decode: str) -> ViewSpec:
    """Every operation of RandAugment, both interpolations, colour jitter and erasing."""
    return ViewSpec(
        interpolation="random", policy=RandAugment(), policy_interpolation="random", color_jitter=(0.4, 0.4, 0.4),
        erase=0.25, decode=decode,
    )  # fmt: skip


def digests(data: Path, *, first: int, last: int, workers: int, decode: str) -> list[int]:
    """Digests of the views first..last - 1: view v is that of row v % N in epoch v // N."""
    catalog = open_catalog(data)
    dataset = BlockBatches(catalog, spec=spec(decode), size=SIZE, seed=7, rows_per_block=len(catalog), proof_rows=0)
    slices = [
        BlockSlice((view // len(catalog),), 0, view % len(catalog), view % len(catalog) + BATCH, last=False)
        for view in range(first, last, BATCH)
    ]
    batches = load(dataset, slices, workers=workers)
    return [pixel_digest(pixels) for (batch,) in batches for pixels in batch.pixels_bhwc.numpy()]


def in_other_processes(
    data: Path, *, views: int, workers: int, processes: int, decode: str, environment: dict[str, str]
) -> list[int]:
    """The digests of all views, from one process or from several that each render a part."""
    all_digests: list[int] = []
    step = views // processes
    for first in range(0, views, step):
        with tempfile.NamedTemporaryFile() as file:
            arguments = [data, "--first", first, "--last", first + step, "--workers", workers, "--decode", decode]
            command = [sys.executable, __file__, "render", *map(str, arguments), "--out", file.name]
            subprocess.run(command, check=True, env=os.environ | environment)
            all_digests += json.loads(Path(file.name).read_text())
    return all_digests


@click.group(invoke_without_command=False)
def main() -> None:
    """Proof that views replay."""


@main.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--first", type=int, required=True)
@click.option("--last", type=int, required=True)
@click.option("--workers", type=int, required=True)
@click.option("--decode", required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def render(data: Path, first: int, last: int, workers: int, decode: str, out: Path) -> None:
    """Renders views and writes their digests (used by `run`)."""
    out.write_text(json.dumps(digests(data, first=first, last=last, workers=workers, decode=decode)))


@main.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--views", default=10_000, show_default=True, help="A multiple of 500.")
@click.option("--decode", type=click.Choice(["exact", "dct"]), default="exact", show_default=True)
def run(work: Path, views: int, decode: str) -> None:
    """Runs the proof in WORK, a folder that is emptied first."""
    shutil.rmtree(work, ignore_errors=True)
    make_pool(work / "images" / "all", count=PHOTOS)
    pack(work / "images", work / "data", rows_per_shard=50)
    table = Table("rendered", "views", "distinct", "different from the first row")
    reference: list[int] = []
    wrong = 0
    for name, workers, processes, environment in CONDITIONS:
        rendered = in_other_processes(
            work / "data", views=views, workers=workers, processes=processes, decode=decode, environment=environment
        )
        reference = reference or rendered
        num_different = sum(a != b for a, b in zip(rendered, reference, strict=True))
        wrong += num_different
        table.add_row(name, f"{len(rendered):,}", f"{len(set(rendered)):,}", str(num_different))
    Console(width=100).print(table)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
