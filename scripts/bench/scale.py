"""Time and memory that grow with the data set, at full size and beyond: catalog, order, a store's block markers.

    python scripts/bench/scale.py --rows 14200000 --rows 142000000

Arrays of the given sizes are made as sparse files in the folder --work and read by the project's own code. Prints CPU
seconds, and by how many MB the peak memory of the process rose, pages of mapped files included.
"""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

import logitstore
from distill.data.catalog import open_catalog
from distill.data.catalog_files import ARRAYS, FOLDER, HEAD, KEY_OFFSETS, KEYS, Shard, write_head
from distill.data.order import Order, permutation
from logitstore.format.identity import Identity
from logitstore.storage import open_storage

ROWS_PER_SHARD = 1000
STEP_ROWS = 4096
EPOCHS = 90
KEY_BYTES = 30
"""Of `n01440764/n01440764_10026.JPEG`."""


def measured(work: Callable[..., object], *arguments: object) -> tuple[float, float]:
    """CPU seconds, and MB by which peak memory rose, in a process of its own."""
    queue: Any = multiprocessing.get_context("fork").Queue()

    def inner() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        work(*arguments)
        seconds = time.process_time() - began
        queue.put((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))

    process = multiprocessing.get_context("fork").Process(target=inner)
    process.start()
    result: tuple[float, float] = queue.get()
    process.join()
    return result


def make_catalog(path: Path, rows: int) -> None:
    """A catalog with keys of a usual length; its other arrays are zeros, its head is as long as a real one."""
    folder = path / FOLDER
    folder.mkdir(parents=True)
    for name, dtype in ARRAYS.items():
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (rows,))
    offsets = np.lib.format.open_memmap(folder / KEY_OFFSETS, "w+", "<u8", (rows + 1,))
    offsets[:] = np.arange(rows + 1) * KEY_BYTES
    (folder / KEYS).write_bytes(b"k" * (rows * KEY_BYTES))
    shards = [
        Shard(name=f"shard-{n:06d}.tar", num_rows=min(ROWS_PER_SHARD, rows - n * ROWS_PER_SHARD), size_bytes=10**8)
        for n in range(-(-rows // ROWS_PER_SHARD))
    ]
    values = {"num_samples": rows, "fingerprint": "0", "class_names": ["a"], "options": {}}
    (folder / HEAD).write_text(write_head(values, shards, folder))


def order_steps(starts: np.ndarray, count: int) -> None:
    order = Order(starts=starts, seed=0, batch_size=STEP_ROWS)
    for step in range(count):
        order.batch(step)


def shuffle(count: int) -> None:
    permutation(count, key=(0, 3))


@click.command()
@click.option("--rows", type=int, multiple=True, default=(14_200_000,), show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/scale"), show_default=True)
@click.option("--packing", is_flag=True, help="Also the permutation of all rows, which packing draws once.")
@click.option("--hashes", default=1_000_000, show_default=True, help="Keys to hash; making a store hashes all.")
def main(rows: tuple[int, ...], work: Path, packing: bool, hashes: int) -> None:
    """Measures what grows with the number of rows."""
    click.echo(f"{'size':>14}  {'operation':<46} {'seconds':>9} {'MB':>9}")

    def show(size: int, operation: str, work: Callable[..., object], *arguments: object) -> None:
        seconds, megabytes = measured(work, *arguments)
        click.echo(f"{size / 1e6:>9,.1f} M     {operation:<46} {seconds:9.3f} {megabytes:9.1f}")

    make_catalog(work / "hashes", hashes)
    small = open_catalog(work / "hashes")
    show(hashes, "hash all keys (making a store)", small.key_hashes)
    shutil.rmtree(work / "hashes")
    for count in rows:
        path = work / str(count)
        make_catalog(path, count)
        show(count, "open the catalog", open_catalog, path)
        starts = open_catalog(path).starts
        show(count, "order: first step", order_steps, starts, 1)
        show(count, "order: 100 steps", order_steps, starts, 100)
        spec = logitstore.StoreSpec(num_samples=count, num_epochs=EPOCHS, num_classes=21841, topk=100)
        store = logitstore.Store(open_storage(path), spec=spec, identity=Identity.new(spec))
        for epoch in range(EPOCHS):
            (path / "proofs" / "c" / str(epoch)).mkdir(parents=True)
        markers = spec.num_blocks
        for block in range(markers):
            (path / "proofs" / "c" / "0" / str(block)).touch()
        show(count, f"list the {markers:,} markers of an epoch", store.done)
        if packing:
            show(count, "permutation of all rows (packing)", shuffle, count)
        shutil.rmtree(path)


if __name__ == "__main__":
    main()
