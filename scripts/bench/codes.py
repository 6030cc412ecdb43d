"""Bytes that layouts of a view's top-k classes take, on real outputs: from these the store's format was chosen.

    python scripts/bench/teacher_outputs.py runs/outputs.npy --views 12288
    python scripts/bench/codes.py runs/outputs.npy

Bytes per view of class numbers, of log-probabilities and of both, in chunks of 4,096 rows under blosc zstd 7, with the
better of byte and bit shuffle and of both orders of the axes. Tail, seeds and headers are not counted.

- by rank: most probable first; class numbers as they are (uint16)
- by rank, ties: classes of one code in the order of their numbers, as differences (the format's layout)
- by class number: rows sorted by class, as differences; log-probabilities in that order, as codes
- reordered classes: by rank, ties, with new class numbers along a path from each class to a similar one
- neighbours: the first class, then positions in its list of likely classes

The path and the lists are learned from the second half of the views; sizes are measured on the first half.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numcodecs import blosc

from logitstore import StoreSpec
from logitstore.format import codec

CHUNK = 4096
STEPS = (16, 12, 8, 6, 4)


def size(values: np.ndarray) -> float:
    """Bytes per row of an (n, k) array under the smallest of four packings."""
    sizes = []
    for shuffle in (blosc.SHUFFLE, blosc.BITSHUFFLE):
        for transposed in (False, True):
            total = 0
            for first in range(0, len(values), CHUNK):
                part = values[first : first + CHUNK]
                part = np.ascontiguousarray(part.T if transposed else part)
                total += len(blosc.compress(part, b"zstd", 7, shuffle, 0))
            sizes.append(total / len(values))
    return min(sizes)


def ranked(logprobs_nc: np.ndarray, *, topk: int) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers and log-probabilities, (n, k), most probable first."""
    order = np.argsort(-logprobs_nc, axis=1, kind="stable")[:, :topk]
    return order, np.take_along_axis(logprobs_nc, order, axis=1)


def similar_path(logprobs_nc: np.ndarray) -> np.ndarray:
    """(C,) new number of each class, along a path: from each class to the one, not yet on it, that is most often with
    it among a view's ten most probable."""
    num_classes = logprobs_nc.shape[1]
    indices_nk, _ = ranked(logprobs_nc, topk=10)
    together = np.zeros((num_classes, num_classes))
    for row in indices_nk:
        together[np.ix_(row, row)] += 1
    numbers = np.full(num_classes, -1)
    current = int(together.sum(axis=1).argmax())
    for number in range(num_classes):
        numbers[current] = number
        current = int(np.where(numbers < 0, together[current], -1).argmax())
    return numbers


def neighbour_positions(logprobs_nc: np.ndarray) -> np.ndarray:
    """(C, C) position of class c in the list of classes by mean probability, given the most probable class."""
    num_classes = logprobs_nc.shape[1]
    probabilities = np.exp(logprobs_nc.astype(np.float64))
    means = np.tile(0.5 * probabilities.mean(axis=0), (num_classes, 1))
    np.add.at(means, probabilities.argmax(axis=1), probabilities)
    np.fill_diagonal(means, np.inf)
    order = np.argsort(-means, axis=1, kind="stable")
    positions = np.empty_like(order)
    np.put_along_axis(positions, order, np.arange(num_classes)[None].repeat(num_classes, 0), axis=1)
    return positions


def spec_of(topk: int, num_classes: int, log_step: float) -> StoreSpec:
    return StoreSpec(num_samples=1, num_epochs=1, num_classes=num_classes, topk=topk, log_step=log_step)


def divergence(logprobs_nk: np.ndarray, values: np.ndarray, indices: np.ndarray, *, spec: StoreSpec) -> np.ndarray:
    """KL(top-k || decoded) with an exact tail, (n,), nats. The order of ties does not matter."""
    _, codes = codec.decode_classes(indices, values, spec=spec)
    p = np.exp(logprobs_nk.astype(np.float64))
    q = np.exp(codes * -spec.log_step)
    q *= (p.sum(axis=1) / q.sum(axis=1))[:, None]
    return np.asarray((p * (np.log(p) - np.log(q))).sum(axis=1))


def layouts(measured: np.ndarray, learned: np.ndarray, *, topk: int, log_step: float) -> dict[str, tuple[float, float]]:
    """Layout -> bytes per view of class numbers and of log-probabilities."""
    spec = spec_of(topk, measured.shape[1], log_step)
    classes, logprobs = ranked(measured, topk=topk)
    sizes = {}
    tied, values = codec.encode_classes(classes, logprobs, spec=spec)
    sizes["by rank"] = size(classes.astype(np.uint16)), size(values)
    sizes["by rank, ties"] = size(tied.astype(np.uint16)), size(values)
    codes = np.minimum(np.rint(-logprobs / log_step), codec.LARGEST).astype(np.uint8)
    order = np.argsort(classes, axis=1)
    sorted_classes = np.take_along_axis(classes, order, axis=1)
    sizes["by class number"] = (
        size(np.diff(sorted_classes, axis=1, prepend=0).astype(np.uint16)),
        size(np.take_along_axis(codes, order, axis=1)),
    )
    renumbered, _ = codec.encode_classes(similar_path(learned)[classes], logprobs, spec=spec)
    sizes["reordered classes"] = size(renumbered.astype(np.uint16)), size(values)
    positions = neighbour_positions(learned)[classes[:, :1], classes]
    positions[:, 0] = classes[:, 0]
    tied_positions, _ = codec.encode_classes(positions, logprobs, spec=spec)
    sizes["neighbours"] = min(size(tied_positions.astype(np.uint16)), size(positions.astype(np.uint16))), size(values)
    return sizes


@click.command()
@click.argument("outputs", type=click.Path(exists=True, path_type=Path))
def main(outputs: Path) -> None:
    """Measures on OUTPUTS, (n, C) log-probabilities in a .npy."""
    logprobs_nc = np.load(outputs)
    measured, learned = np.array_split(logprobs_nc, 2)
    for topk in (10, 100):
        click.echo(f"k = {topk}: bytes per view of class numbers + log-probabilities, at a code step of 1/8")
        for name, (indices, codes) in layouts(measured, learned, topk=topk, log_step=1 / 8).items():
            click.echo(f"  {name:<20} {indices:8.2f} + {codes:6.2f} = {indices + codes:8.2f}")
        click.echo(f"k = {topk}: by rank, ties, at other code steps; KL of the top-k classes, mean and largest")
        classes, logprobs = ranked(measured, topk=topk)
        for inverse in STEPS:
            spec = spec_of(topk, measured.shape[1], 1 / inverse)
            tied, values = codec.encode_classes(classes, logprobs, spec=spec)
            indices, codes = size(tied.astype(np.uint16)), size(values)
            kl = divergence(logprobs, values, tied.astype(np.uint16), spec=spec)
            click.echo(f"  1/{inverse:<18} {indices:8.2f} + {codes:6.2f} = {indices + codes:8.2f}"
                       f"    {kl.mean():.2e} {kl.max():.2e}")  # fmt: skip


if __name__ == "__main__":
    main()
