"""Makes `golden/`, five tiny stores of the format's newest version, those that are not there yet:

    python tests/logitstore/make_golden.py tests/logitstore/golden

They are never made again: what they hold must open, with the same values, in every later release. A later format
version gets golden stores of its own beside those of versions 1 and 2.
"""

import sys
from pathlib import Path

import numpy as np

import logitstore

SEEDS = [[11, 12, 13, 14, 15], [21, 22, 23, 24, 2**64 - 1]]
PROBABILITIES = [[0.5, 0.25, 0.125], [0.9, 0.05, 0.01], [0.4, 0.3, 0.3], [0.999, 0.0005, 0.0], [0.2, 0.2, 0.2]]
COUNTS = [[4, 3, 1], [6, 2, 0], [3, 3, 2], [8, 0, 0], [4, 2, 2]]
MAX_MASS = 0.75
"""Of the store `max_mass`: entries after those that reach this mass together are empty."""
TAIL_EVEN = [0.1] * 10
TAIL_ODD = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.00625, 0.00625, 0.00625, 0.00625, 0.00625]
INDICES = [[7, 0, 3], [1, 2, 9], [4, 5, 6], [8, 7, 0], [9, 8, 7]]


def make(path: Path, *, name: str) -> None:
    """A store of 5 samples in 2 epochs, in blocks of 4 rows, 3 of 10 classes; block 1 of epoch 1 is absent. `log8`
    has a tail model."""
    selection = {"counts": "sample", "hybrid": "hybrid"}.get(name, "topk")
    spec = logitstore.StoreSpec(
        num_samples=5,
        num_epochs=2,
        num_classes=10,
        topk=3,
        encoding="log8" if name in ("hybrid", "max_mass") else name,
        selection=selection,
        max_mass=MAX_MASS if name == "max_mass" else 1.0,
        draws=8 if name == "counts" else 0,
        tail_groups=2 if name == "log8" else 0,
        rows_per_block=4,
        store_seed=42,
        view={"scale": [0.08, 1.0]},
        teacher={"name": "golden", "class_names": list("abcdefghij")},
        data={"fingerprint": "0123"},
        software={"logitstore": "0.1.0"},
    )
    keys = np.array([1, 2, 3, 4, 2**63], np.uint64)
    model = logitstore.TailModel(
        groups=np.arange(10) % 2, logprobs=np.log(np.array([TAIL_EVEN, TAIL_ODD])).astype(np.float32)
    )
    labels = np.array([0, 1, 2, -1, 9])
    logitstore.create(path, spec, keys=keys, labels=labels, tail_model=model if spec.tail_groups else None)
    probabilities = np.array(COUNTS) / 8 if name == "counts" else np.array(PROBABILITIES)
    if name == "max_mass":
        probabilities[probabilities.cumsum(axis=1) - probabilities >= MAX_MASS] = 0
    with np.errstate(divide="ignore"):
        logprobs = np.log(probabilities).astype(np.float32)
        tail = np.log(1 - probabilities.sum(axis=1)).astype(np.float32)
    if name == "hybrid":  # The last class of each row was drawn and stands for all others, but in the third.
        drawn = np.array([True, True, False, True, True])
        with np.errstate(divide="ignore"):
            tail = np.log(np.exp(tail) + drawn * probabilities[:, 2]).astype(np.float32)
        logprobs[drawn, 2] = np.inf
    with logitstore.writer(path) as writer:
        for epoch, block in [(0, 0), (0, 1), (1, 0)]:
            rows = slice(block * 4, min(block * 4 + 4, 5))
            writer.write(
                epoch,
                block,
                seeds=np.array(SEEDS[epoch], np.uint64)[rows],
                indices=np.array(INDICES)[rows],
                logprobs=logprobs[rows],
                tail=tail[rows],
                proof=100 + 10 * epoch + block,
            )
    (path / "proofs" / "writer.lock").unlink()


if __name__ == "__main__":
    for each in ("log8", "float16", "counts", "hybrid", "max_mass"):
        path = Path(sys.argv[1]) / f"v{logitstore.FORMAT_VERSION}-{each}.zarr"
        if not path.exists():
            make(path, name=each)
