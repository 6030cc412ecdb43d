"""Bytes per view of a store, for many k and both encodings: the tables of `logitstore plan`.

    python scripts/bench/teacher_outputs.py runs/outputs.npy --views 12288     # real outputs, once
    python scripts/bench/sizes.py runs/outputs.npy
    python scripts/bench/sizes.py runs/outputs.npy --classes 21841
    python scripts/bench/sizes.py runs/outputs.npy --rows-per-block 512

All files of the blocks are counted; the ratio is to the published records of 4 + 4k bytes. `bench_store.py` measures
speed and the rest.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import numpy as np

import logitstore
from logitstore.tools.describe import describe_store
from scripts.bench_store import print_table, topk_rows, write_store

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
MIXTURE = 0.7
"""Standard deviation of a synthetic class's own part, as a fraction of that of a view's logits."""


def widened(logprobs_nc: np.ndarray, num_classes: int) -> np.ndarray:
    """(n, num_classes) float32 log-probabilities of more classes than the teacher has, made from its real outputs.

    Each new class has the logit of one of the teacher's classes, in turn, plus a fixed random mixture of all of them.
    So the logits keep their rank and, roughly, their spread, and classes have similar classes, as in a larger WordNet.
    """
    random = np.random.default_rng(0)
    num_real = logprobs_nc.shape[1]
    mixture = random.normal(size=(num_real, num_classes)).astype(np.float32) * (MIXTURE / num_real**0.5)
    centred = logprobs_nc - logprobs_nc.mean(axis=1, keepdims=True)
    logits = centred[:, np.arange(num_classes) % num_real] + centred @ mixture
    logits -= logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def bench_sizes(
    work: Path, logprobs_nc: np.ndarray, *, sizes: tuple[int, ...], rows_per_block: int
) -> dict[str, float]:
    """Bytes per view and their ratio to the published record's, for each k and encoding."""
    num_classes = logprobs_nc.shape[1]
    facts = {"top_100_mass": float(np.exp(topk_rows(logprobs_nc, topk=100)["logprobs"]).sum(1).mean())}
    for topk in sizes:
        rows = topk_rows(logprobs_nc, topk=topk)
        for encoding in ("log8", "float16"):
            path = work / f"{encoding}-{topk}.zarr"
            write_store(path, rows, encoding=encoding, classes=num_classes, rows_per_block=rows_per_block)
            size = describe_store(logitstore.open(path))["bytes_per_view"]
            end = f"k{topk}" + ("" if encoding == "log8" else "_float16")
            facts |= {f"bytes_per_view_{end}": size, f"ratio_{end}": size / (4 + 4 * topk)}
            shutil.rmtree(path)
    return facts


@click.command()
@click.argument("outputs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--classes", type=int, help="Measure outputs of this many classes, made from the real ones, at k = 10 and 100."
)
@click.option("--rows-per-block", default=4096, show_default=True, help="Rows of one block.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder for the stores; a temporary one when left out.")
def main(outputs: Path, classes: int | None, rows_per_block: int, work: Path | None) -> None:
    """Measures the log-probabilities in OUTPUTS, an (n, classes) .npy, and prints a table."""
    logprobs_nc = np.load(outputs)
    sizes = tuple(k for k in SIZES if k <= logprobs_nc.shape[1])
    if classes is not None:
        logprobs_nc, sizes = widened(logprobs_nc, classes), (10, 100)
    with tempfile.TemporaryDirectory(prefix="bench_sizes.", dir=work) as folder:
        print_table(bench_sizes(Path(folder), logprobs_nc, sizes=sizes, rows_per_block=rows_per_block))


if __name__ == "__main__":
    main()
