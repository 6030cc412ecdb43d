"""Small stores without images, of known content, and the folder of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitstore

MakeStore = Callable[..., logitstore.Store]


def random_targets(number: int, *, classes: int, topk: int, seed: int, scale: float = 3.0) -> dict[str, Any]:
    """Targets of `number` views from random logits, as arguments of `Writer.write`."""
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


def small_spec(**changes: object) -> logitstore.StoreSpec:
    """2 epochs of 100 samples of 8 classes."""
    values = {"num_samples": 100, "num_epochs": 2, "num_classes": 8, "topk": 2, "rows_per_block": 32}
    return logitstore.StoreSpec(**values | changes)  # type: ignore[arg-type]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """`make_store(blocks=[(epoch, block), ..], **spec)`: 50 samples of 8 classes in 3 epochs of 4 blocks, unless
    `spec` says otherwise. Labels are row % 8."""

    def make(*, blocks: list[tuple[int, int]] | None = None, labels: bool = True, **changes: Any) -> logitstore.Store:
        values: dict[str, Any] = {
            "num_samples": 50, "num_epochs": 3, "num_classes": 8, "topk": 4, "rows_per_block": 16,
            "encoding": "float16", "data": {"class_names": [f"name {n}" for n in range(8)]},
        }  # fmt: skip
        spec = logitstore.StoreSpec(**values | changes)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        labels_n = np.arange(spec.num_samples) % spec.num_classes if labels else np.full(spec.num_samples, -1)
        logitstore.create(
            path, spec, keys=np.arange(spec.num_samples, dtype=np.uint64), labels=labels_n.astype(np.int32)
        )
        everything = [(e, b) for e in range(spec.num_epochs) for b in range(spec.num_blocks)]
        with logitstore.writer(path) as writer:
            for epoch, block in everything if blocks is None else blocks:
                number = len(spec.block_rows(block))
                targets = random_targets(number, classes=spec.num_classes, topk=spec.topk, seed=10 * epoch + block)
                writer.write(epoch, block, **targets)
        return logitstore.open(path)

    return make


def damage(store: logitstore.Store, *, epoch: int, block: int) -> None:
    """Flips a bit of a block's values."""
    path = Path(store.path) / "logprobs" / "c" / str(epoch) / str(block) / "0"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def write_run(folder: Path, lines: list[str], *, finished: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text("data:\n  path: d\nrun:\n  dir: r\nstudent:\n  name: tiny_vit_5m\n")
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    if finished:
        (folder / "summary.json").write_text("{}")
    return folder
