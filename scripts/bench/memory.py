"""Memory of loader workers on a data set of the full size: 14.2 million rows, at 224 pixels.

    python scripts/bench/memory.py --pool FOLDER_OF_JPEGS --rows 14200000 --json memory.json

The files are packed once into a shard of 1,000 rows, and a catalog is made that names this shard many times. Prints the
private memory (USS) and the proportional memory (PSS) of the largest worker after some batches, in MB, beside the same
with 1,000 rows: the difference is what grows with the number of rows.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import numpy as np

from distill.data.catalog import open_catalog
from distill.data.catalog_files import FOLDER, HEAD, Shard, write_head
from distill.data.loader import load
from distill.data.packing.pack import pack
from scripts.bench.loader import _batches, _repeat

SHARD_ROWS = 1000


def multiply(source: Path, target: Path, times: int) -> None:
    """Makes a data set that holds the one shard of `source` `times` times."""
    head = json.loads((source / FOLDER / HEAD).read_text())
    (target / FOLDER).mkdir(parents=True)
    shard = head["shards"][0]
    shards = [Shard(**(shard | {"name": f"shard-{n:06d}.tar"})) for n in range(times)]
    for entry in shards:
        (target / entry.name).symlink_to(source / shard["name"])
    for name in ("labels", "offsets", "sizes", "digests"):
        np.save(target / FOLDER / f"{name}.npy", np.tile(np.load(source / FOLDER / f"{name}.npy"), times))
    ends = np.load(source / FOLDER / "key_offsets.npy")
    further = (np.arange(times, dtype=np.uint64)[:, None] * ends[-1] + ends[None, 1:]).reshape(-1)
    np.save(target / FOLDER / "key_offsets.npy", np.concatenate([ends[:1], further]))
    (target / FOLDER / "keys.bin").write_bytes((source / FOLDER / "keys.bin").read_bytes() * times)
    values = {name: head[name] for name in ("fingerprint", "class_names", "options")}
    text = write_head(values | {"num_samples": times * SHARD_ROWS}, shards, target / FOLDER)
    (target / FOLDER / HEAD).write_text(text)


def memory_mb(pid: int) -> dict[str, float]:
    """USS and PSS of a process in MB."""
    pairs = [line.split()[:2] for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    values = {name.rstrip(":"): int(kb) / 1000 for name, kb in pairs}
    return {"uss": values["Private_Clean"] + values["Private_Dirty"], "pss": values["Pss"]}


def measure(path: Path, *, workers: int, batches: int) -> dict[str, float]:
    """The largest worker's memory after some batches, in MB, and the seconds that opening the catalog took."""
    began = time.perf_counter()
    catalog = open_catalog(path)
    opened = time.perf_counter() - began
    iterator = load(_batches(catalog), range(10**9), workers=workers, prefetch=2)
    for _ in range(batches):
        next(iterator)
    workers_mb = [memory_mb(child.pid) for child in multiprocessing.active_children() if child.pid]
    return {name: max(values[name] for values in workers_mb) for name in ("uss", "pss")} | {"open_s": opened}


@click.command()
@click.option("--pool", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
              help="A folder of JPEG files.")  # fmt: skip
@click.option("--rows", default=14_200_000, show_default=True, help="Rows of the large data set.")
@click.option("--workers", default=2, show_default=True)
@click.option("--batches", default=60, show_default=True, help="Batches of 32 before memory is read.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(pool: Path, rows: int, workers: int, batches: int, json_file: Path | None) -> None:
    """Measures the memory of loader workers on a small and on a very large data set."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _repeat(pool, folder / "images", SHARD_ROWS)
        pack(folder / "images", folder / "one", rows_per_shard=SHARD_ROWS, labelled=False)
        multiply(folder / "one", folder / "many", rows // SHARD_ROWS)
        figures = {}
        for name in ("one", "many"):
            for key, value in measure(folder / name, workers=workers, batches=batches).items():
                figures[f"{key}_{name}"] = value
    for name, value in figures.items():
        click.echo(f"{name:20} {value:10.2f}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
