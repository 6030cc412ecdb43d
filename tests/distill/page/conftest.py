"""Small stores without pictures, of known content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitstore

MakeStore = Callable[..., logitstore.Store]


def answers(number: int, *, classes: int, topk: int, seed: int, scale: float = 3.0) -> dict[str, Any]:
    """What a teacher might say of `number` views, as `Writer.write` takes it."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(number, classes)) * scale
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    order = np.argsort(-logprobs, axis=1)
    logprobs = np.take_along_axis(logprobs, order, axis=1)
    left = logprobs[:, topk:]
    tail = np.logaddexp.reduce(left, axis=1) if left.shape[1] else np.full(number, -np.inf)
    return {
        "seeds": np.arange(number, dtype=np.uint64) + np.uint64(1000 * seed),
        "indices": order[:, :topk],
        "logprobs": logprobs[:, :topk].astype(np.float32),
        "tail": tail.astype(np.float32),
        "proof": 1 + seed,
    }


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """`make_store(blocks=[(epoch, block), ..], **spec)`: 50 samples of 8 classes in 3 epochs of 4 blocks, unless told
    otherwise. Labels are row % 8."""

    def make(*, blocks: list[tuple[int, int]] | None = None, labels: bool = True, **changes: Any) -> logitstore.Store:
        values: dict[str, Any] = {
            "num_samples": 50, "num_epochs": 3, "num_classes": 8, "topk": 4, "rows_per_block": 16,
            "encoding": "float16", "data": {"class_names": [f"name {n}" for n in range(8)]},
        }  # fmt: skip
        spec = logitstore.StoreSpec(**values | changes)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        known = np.arange(spec.num_samples) % spec.num_classes if labels else np.full(spec.num_samples, -1)
        logitstore.create(path, spec, keys=np.arange(spec.num_samples, dtype=np.uint64), labels=known.astype(np.int32))
        everything = [(e, b) for e in range(spec.num_epochs) for b in range(spec.num_blocks)]
        with logitstore.writer(path) as writer:
            for epoch, block in everything if blocks is None else blocks:
                number = len(spec.block_rows(block))
                said = answers(number, classes=spec.num_classes, topk=spec.topk, seed=10 * epoch + block)
                writer.write(epoch, block, **said)
        return logitstore.open(path)

    return make


def harm(store: logitstore.Store, *, epoch: int, block: int) -> None:
    """Flips a bit of a block's values."""
    path = Path(store.path) / "logprobs" / "c" / str(epoch) / str(block) / "0"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
