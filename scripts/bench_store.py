"""Benchmark of the store: bytes per view, rows written and read per second, beside fixed records and a raw memory map.

    python scripts/bench/teacher_outputs.py runs/outputs.npy --views 8192     # real outputs, once
    python scripts/bench_store.py --outputs runs/outputs.npy --json bench_store.json
    python scripts/bench_store.py --scale

Everything is measured in one process on one core, from a warm page cache; the best of several repeats counts. Reading
is timed in CPU seconds, writing in wall-clock seconds, because it waits for the disk. Without --outputs the outputs are
synthetic (a softmax of normal logits, which compresses less than real outputs). With --scale instead: what opening,
`info` and reading cost on a store of 14,200,000 samples, 90 epochs and k = 100 beside a small one, in time and memory.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

import logitstore
from logitstore.tools.describe import describe_store

Values = dict[str, Any]
"""Keyword arguments of `logitstore.Writer.write`: arrays over n rows."""

BATCH = 1024
NUM_CLASSES = 1000


def synthetic_outputs(num_views: int) -> np.ndarray:
    """(n, C) float32 log-probabilities of normal logits."""
    logits = np.random.default_rng(0).normal(size=(num_views, NUM_CLASSES)).astype(np.float32) * 2.5
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def topk_rows(logprobs_nc: np.ndarray, *, topk: int) -> Values:
    """What a teacher pass hands to the writer: `indices`, `logprobs` (n, k) and `tail` (n,)."""
    order = np.argsort(-logprobs_nc, axis=1, kind="stable")
    logprobs_nk = np.take_along_axis(logprobs_nc, order[:, :topk], axis=1)
    rest = np.take_along_axis(logprobs_nc, order[:, topk:], axis=1).astype(np.float64)
    tail = np.log(np.exp(rest).sum(axis=1)).astype(np.float32)
    return {"indices": order[:, :topk], "logprobs": logprobs_nk, "tail": tail}


def seconds(work: Callable[[], object], *, repeats: int = 5) -> float:
    """The shortest of several runs, in CPU seconds of this thread, so other programs on the machine do not count."""
    times = []
    for _ in range(repeats):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return min(times)


def write_store(
    path: Path, rows: Values, *, encoding: str, classes: int = NUM_CLASSES, rows_per_block: int = 4096
) -> float:
    """Writes one epoch. **Returns** rows per second, compression and flushes included."""
    n, topk = rows["indices"].shape
    spec = logitstore.StoreSpec(
        num_samples=n, num_epochs=1, num_classes=classes, topk=topk, encoding=encoding, rows_per_block=rows_per_block
    )
    logitstore.create(path, spec, keys=np.arange(n), labels=np.zeros(n, int))
    begin = time.perf_counter()
    with logitstore.writer(path) as writer:
        for block in range(spec.num_blocks):
            numbers = spec.block_rows(block)
            values = {name: array[numbers.start : numbers.stop] for name, array in rows.items()}
            writer.write(0, block, seeds=np.asarray(numbers, np.uint64), proof=1, **values)
    return n / (time.perf_counter() - begin)


def divergence(path: Path, rows: Values) -> np.ndarray:
    """KL(exact top-k and tail || decoded), nats, (n,)."""
    stored = logitstore.open(path).read(epoch=0, rows=slice(None))
    p = np.concatenate([rows["logprobs"], rows["tail"][:, None]], axis=1).astype(np.float64)
    q = np.concatenate([stored.logprobs, stored.tail[:, None]], axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.exp(p) > 0, np.exp(p) * (p - q), 0).sum(axis=1)


def record_file(path: Path, rows: Values) -> np.dtype[Any]:
    """Writes the same rows in the published layout: fixed records of seed, class numbers and float16 probabilities."""
    n, topk = rows["indices"].shape
    record = np.dtype([("seed", "<i4"), ("indices", "<i2", (topk,)), ("values", "<f2", (topk,))])
    out = np.empty(n, record)
    out["seed"], out["indices"], out["values"] = np.arange(n), rows["indices"], np.exp(rows["logprobs"])
    out.tofile(path)
    return record


def read_records(path: Path, record: np.dtype[Any], rows: np.ndarray) -> None:
    """Reads records one by one: seek, read, split, as a data set does that returns one sample at a time."""
    with path.open("rb") as file:
        for first in range(0, len(rows), BATCH):
            records = []
            for row in rows[first : first + BATCH].tolist():
                file.seek(row * record.itemsize)
                records.append(np.frombuffer(file.read(record.itemsize), record)[0])
            np.stack([each["indices"] for each in records]).astype(np.int64)
            np.stack([each["values"] for each in records]).astype(np.float32)


def read_map(path: Path, record: np.dtype[Any], rows: np.ndarray) -> None:
    """Reads the same records from a memory map, batch by batch."""
    mapped = np.memmap(path, record, mode="r")
    for first in range(0, len(rows), BATCH):
        records = mapped[rows[first : first + BATCH]]
        records["indices"].astype(np.int64), records["values"].astype(np.float32)


def read_store(path: Path, rows: np.ndarray) -> None:
    store = logitstore.open(path)
    for first in range(0, len(rows), BATCH):
        store.read(epoch=0, rows=rows[first : first + BATCH])


def bench_k(work: Path, logprobs_nc: np.ndarray, *, topk: int, repeats: int) -> dict[str, float]:
    """All figures for one k; their keys end in _kK."""
    base = topk_rows(logprobs_nc, topk=topk)
    n, published = len(logprobs_nc), 4 + 4 * topk
    facts: dict[str, float] = {}
    for encoding in ("log8", "float16"):
        path = work / f"{encoding}-{topk}.zarr"
        written = write_store(path, base, encoding=encoding)
        size = describe_store(logitstore.open(path))["bytes_per_view"]
        kl = divergence(path, base)
        end = "" if encoding == "log8" else "_float16"
        facts |= {
            f"bytes_per_view_k{topk}{end}": size, f"ratio_k{topk}{end}": size / published,
            f"kl_mean_k{topk}{end}": float(kl.mean()), f"kl_worst_k{topk}{end}": float(kl.max()),
            f"written_rows_per_s_k{topk}{end}": written,
        }  # fmt: skip
    path, records = work / f"log8-{topk}.zarr", work / f"records-{topk}.bin"
    # The reader's rate does not depend on the values: they are repeated to fill several blocks.
    repetitions = max(1, 65_536 // n)
    long = {name: np.concatenate([array] * repetitions) for name, array in base.items()}
    if repetitions > 1:
        path = work / f"long-{topk}.zarr"
        write_store(path, long, encoding="log8")
    record = record_file(records, long)
    ordered = np.arange(n * repetitions)
    shuffled = np.random.default_rng(0).permutation(n * repetitions)
    rate = {}
    for order, rows in (("ordered", ordered), ("random", shuffled)):
        few = rows[: 16 * BATCH]
        rate[f"{order}_store"] = len(rows) / seconds(partial(read_store, path, rows), repeats=repeats)
        rate[f"{order}_map"] = len(rows) / seconds(partial(read_map, records, record, rows))
        rate[f"{order}_records"] = len(few) / seconds(partial(read_records, records, record, few), repeats=3)
        facts[f"{order}_rows_per_s_k{topk}"] = rate[f"{order}_store"]
        facts[f"{order}_vs_memory_map_k{topk}"] = rate[f"{order}_store"] / rate[f"{order}_map"]
        facts[f"{order}_vs_record_reader_k{topk}"] = rate[f"{order}_store"] / rate[f"{order}_records"]
    return facts


def peak_mb(work: Callable[[], object]) -> float:
    """Peak memory of the arrays and objects that `work` makes, in MB; the pages of a memory map are not counted."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def costs(path: Path, written: list[tuple[int, int]], *, name: str) -> dict[str, float]:
    """Opening, `info` and reading: CPU milliseconds and peak MB."""
    facts = {"open_ms": 1e3 * seconds(lambda: logitstore.open(path))}
    store = logitstore.open(path)
    facts["info_ms"] = 1e3 * seconds(lambda: describe_store(store), repeats=3)
    rng = np.random.default_rng(0)
    epoch, block = written[-1]
    rows = rng.choice(np.array(store.spec.block_rows(block)), 256, replace=False)
    # Without a cache, because random reads over a large data set hardly ever find a cached chunk.
    facts["read_256_rows_ms"] = 1e3 * seconds(lambda: logitstore.open(path, cache_bytes=0).read(epoch=epoch, rows=rows))
    facts["open_and_read_mb"] = peak_mb(lambda: logitstore.open(path, cache_bytes=0).read(epoch=epoch, rows=rows))
    facts["info_mb"] = peak_mb(lambda: describe_store(logitstore.open(path)))
    return {f"{name}_{key}": value for key, value in facts.items()}


def scale(work: Path) -> dict[str, float]:
    """A store of the full size in which a few blocks are written, beside one that has no others."""
    n, epochs, topk = 14_200_000, 90, 100
    rows = topk_rows(synthetic_outputs(4096), topk=topk)
    facts: dict[str, float] = {}
    for name, samples, stored in (("small", 3 * 4096, 1), ("full", n, epochs)):
        path = work / f"{name}.zarr"
        spec = logitstore.StoreSpec(num_samples=samples, num_epochs=stored, num_classes=NUM_CLASSES, topk=topk)
        keys = np.memmap(work / f"{name}.keys", np.uint64, mode="w+", shape=(samples,))
        keys[:] = np.random.default_rng(0).integers(0, 2**63, samples, dtype=np.uint64)
        keys.flush()
        keys = np.memmap(work / f"{name}.keys", np.uint64, mode="r", shape=(samples,))
        labels = np.broadcast_to(np.int32(7), samples)

        def make(path: Path = path, spec: Any = spec, keys: np.ndarray = keys, labels: np.ndarray = labels) -> None:
            logitstore.create(path, spec, keys=keys, labels=labels)

        facts[f"{name}_create_mb"] = peak_mb(make)
        written = [(0, 0), (0, 1), (stored - 1, spec.num_blocks - (2 if stored > 1 else 1))]
        with logitstore.writer(path) as writer:
            for epoch, block in written:
                writer.write(epoch, block, seeds=np.arange(4096, dtype=np.uint64), proof=1, **rows)
        facts |= costs(path, written, name=name)
    return facts


def print_table(facts: dict[str, float]) -> None:
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value:>14,.6f}" if abs(value) < 0.1 else f"{name:<{width}}  {value:>14,.3f}")


@click.command()
@click.option("--outputs", type=click.Path(exists=True, path_type=Path), help="Log-probabilities, an (n, 1000) .npy.")
@click.option("--scale", "at_scale", is_flag=True, help="Measure a store of the full size instead.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder for the stores; a temporary one when left out.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(
    outputs: Path | None,
    at_scale: bool,
    work: Path | None,
    repeats: int,
    json_file: Path | None,
) -> None:
    """Measures a store and prints a table."""
    folder = Path(tempfile.mkdtemp(prefix="bench_store.", dir=work))
    try:
        if at_scale:
            facts = scale(folder)
        else:
            logprobs_nc = np.load(outputs) if outputs else synthetic_outputs(8192)
            kind = f"real outputs, {outputs}" if outputs else "synthetic outputs (normal logits)"
            click.echo(f"{len(logprobs_nc):,} views of {logprobs_nc.shape[1]:,} classes: {kind}")
            facts = {}
            for topk in (10, 100):
                facts |= bench_k(folder, logprobs_nc, topk=topk, repeats=repeats)
            facts["ordered_vs_record_reader"] = facts["ordered_vs_record_reader_k100"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_table(facts)
    if json_file is not None:
        json_file.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
