"""What ways of laying out kept classes cost, on real outputs: the options from which the store's format was chosen.

    python scripts/bench/teacher_outputs.py runs/outputs.npy --views 12288
    python scripts/bench/codes.py runs/outputs.npy

Bytes a view of class numbers, of log-probabilities, and of both, in chunks of 4,096 rows under blosc zstd 7, the better
of byte and bit shuffle and of both orders of the axes: what the bare arrays take, without tail, seeds and headers.

- by rank: most probable first; class numbers as they are (uint16)
- by rank, ties: classes of one code in the order of their numbers, as differences (the format's way)
- by class number: rows sorted by class, as differences; log-probabilities in that order, as codes
- reordered classes: by rank, ties, of class numbers dealt anew along a path from class to similar class
- neighbours: the first class, then places in its list of likely classes; lists from the second half of the views, which
  the sizes of the first half are measured on
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
    """Bytes a row of the smallest of four ways to pack an (n, k) array."""
    found = []
    for shuffle in (blosc.SHUFFLE, blosc.BITSHUFFLE):
        for turned in (False, True):
            total = 0
            for first in range(0, len(values), CHUNK):
                part = values[first : first + CHUNK]
                part = np.ascontiguousarray(part.T if turned else part)
                total += len(blosc.compress(part, b"zstd", 7, shuffle, 0))
            found.append(total / len(values))
    return min(found)


def ranked(logprobs_nc: np.ndarray, *, topk: int) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers and log-probabilities, (n, k), most probable first."""
    order = np.argsort(-logprobs_nc, axis=1, kind="stable")[:, :topk]
    return order, np.take_along_axis(logprobs_nc, order, axis=1)


def similar_path(logprobs_nc: np.ndarray) -> np.ndarray:
    """(C,) new number of each class: along the path that goes from each class to the one, not yet passed, that it is
    kept together with most often among the ten most probable."""
    num_classes = logprobs_nc.shape[1]
    kept, _ = ranked(logprobs_nc, topk=10)
    together = np.zeros((num_classes, num_classes))
    for row in kept:
        together[np.ix_(row, row)] += 1
    numbers = np.full(num_classes, -1)
    here = int(together.sum(axis=1).argmax())
    for number in range(num_classes):
        numbers[here] = number
        here = int(np.where(numbers < 0, together[here], -1).argmax())
    return numbers


def neighbour_places(logprobs_nc: np.ndarray) -> np.ndarray:
    """(C, C) place of class c in the list of classes by their mean probability, given the most probable class."""
    num_classes = logprobs_nc.shape[1]
    probabilities = np.exp(logprobs_nc.astype(np.float64))
    means = np.tile(0.5 * probabilities.mean(axis=0), (num_classes, 1))
    np.add.at(means, probabilities.argmax(axis=1), probabilities)
    np.fill_diagonal(means, np.inf)
    order = np.argsort(-means, axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(num_classes)[None].repeat(num_classes, 0), axis=1)
    return places


def spec_of(topk: int, num_classes: int, log_step: float) -> StoreSpec:
    return StoreSpec(num_samples=1, num_epochs=1, num_classes=num_classes, topk=topk, log_step=log_step)


def divergence(logprobs_nk: np.ndarray, values: np.ndarray, indices: np.ndarray, *, spec: StoreSpec) -> np.ndarray:
    """KL(kept classes || decoded) with an exact tail, (n,), nats. The order of ties is no matter."""
    _, codes = codec.decode_classes(indices, values, spec=spec)
    p = np.exp(logprobs_nk.astype(np.float64))
    q = np.exp(codes * -spec.log_step)
    q *= (p.sum(axis=1) / q.sum(axis=1))[:, None]
    return np.asarray((p * (np.log(p) - np.log(q))).sum(axis=1))


def layouts(judged: np.ndarray, learned: np.ndarray, *, topk: int, log_step: float) -> dict[str, tuple[float, float]]:
    """Bytes a view of class numbers and of log-probabilities, by the way they are laid out."""
    spec = spec_of(topk, judged.shape[1], log_step)
    classes, logprobs = ranked(judged, topk=topk)
    found = {}
    tied, values = codec.encode_classes(classes, logprobs, spec=spec)
    found["by rank"] = size(classes.astype(np.uint16)), size(values)
    found["by rank, ties"] = size(tied.astype(np.uint16)), size(values)
    codes = np.minimum(np.rint(-logprobs / log_step), codec.LARGEST).astype(np.uint8)
    order = np.argsort(classes, axis=1)
    sorted_classes = np.take_along_axis(classes, order, axis=1)
    found["by class number"] = (
        size(np.diff(sorted_classes, axis=1, prepend=0).astype(np.uint16)),
        size(np.take_along_axis(codes, order, axis=1)),
    )
    dealt, _ = codec.encode_classes(similar_path(learned)[classes], logprobs, spec=spec)
    found["reordered classes"] = size(dealt.astype(np.uint16)), size(values)
    places = neighbour_places(learned)[classes[:, :1], classes]
    places[:, 0] = classes[:, 0]
    near, _ = codec.encode_classes(places, logprobs, spec=spec)
    found["neighbours"] = min(size(near.astype(np.uint16)), size(places.astype(np.uint16))), size(values)
    return found


@click.command()
@click.argument("outputs", type=click.Path(exists=True, path_type=Path))
def main(outputs: Path) -> None:
    """Measures on OUTPUTS, (n, C) log-probabilities in a .npy."""
    logprobs_nc = np.load(outputs)
    judged, learned = np.array_split(logprobs_nc, 2)
    for topk in (10, 100):
        click.echo(f"k = {topk}: bytes a view of class numbers + log-probabilities, at a code step of 1/8")
        for name, (numbers, values) in layouts(judged, learned, topk=topk, log_step=1 / 8).items():
            click.echo(f"  {name:<20} {numbers:8.2f} + {values:6.2f} = {numbers + values:8.2f}")
        click.echo(f"k = {topk}: by rank, ties, at other code steps; KL of the kept classes, mean and largest")
        classes, logprobs = ranked(judged, topk=topk)
        for inverse in STEPS:
            spec = spec_of(topk, judged.shape[1], 1 / inverse)
            tied, values = codec.encode_classes(classes, logprobs, spec=spec)
            numbers, sizes = size(tied.astype(np.uint16)), size(values)
            kl = divergence(logprobs, values, tied.astype(np.uint16), spec=spec)
            click.echo(f"  1/{inverse:<18} {numbers:8.2f} + {sizes:6.2f} = {numbers + sizes:8.2f}"
                       f"    {kl.mean():.2e} {kl.max():.2e}")  # fmt: skip


if __name__ == "__main__":
    main()
