"""Small stores with known content."""

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import logitstore

Block = dict[str, Any]


def teacher_rows(n: int, *, k: int, num_classes: int, seed: int, scale: float = 4.0) -> Block:
    """What a teacher would say of n views: softmax of normal logits, its top k, the log of the rest."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, num_classes)) * scale
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    order = np.argsort(-logprobs, axis=1, kind="stable")
    kept = np.take_along_axis(logprobs, order[:, :k], axis=1)
    if k == num_classes:
        tail = np.full(n, -np.inf)
    else:
        tail = np.logaddexp.reduce(np.take_along_axis(logprobs, order[:, k:], axis=1), axis=1)
    return {
        "seeds": (np.arange(n, dtype=np.uint64) + np.uint64(seed) * np.uint64(2**40)),
        "indices": order[:, :k],
        "logprobs": kept.astype(np.float32),
        "tail": tail.astype(np.float32),
        "proof": seed + 1,
    }


@pytest.fixture
def rows_for() -> Callable[..., Block]:
    """Content of one block: `rows_for(spec, epoch, block)`."""

    def make(spec: logitstore.StoreSpec, epoch: int, block: int) -> Block:
        n = len(spec.block_rows(block))
        return teacher_rows(n, k=spec.topk, num_classes=spec.num_classes, seed=1000 * epoch + block)

    return make


@pytest.fixture
def make_spec() -> Callable[..., logitstore.StoreSpec]:
    """A spec of 20 samples in blocks of 8 (the last one short), changed by keyword."""

    def make(**changes: Any) -> logitstore.StoreSpec:
        values: dict[str, Any] = {
            "num_samples": 20,
            "num_epochs": 2,
            "num_classes": 30,
            "topk": 5,
            "rows_per_block": 8,
        }
        return logitstore.StoreSpec(**{**values, **changes})

    return make


@pytest.fixture
def make_store(
    tmp_path: Path, make_spec: Callable[..., logitstore.StoreSpec], rows_for: Callable[..., Block]
) -> Callable[..., Path]:
    """A store of `make_spec(**changes)` with all blocks written but those in `missing`."""

    def make(
        *,
        name: str = "t.zarr",
        missing: Container[tuple[int, int]] = (),
        tail_model: logitstore.TailModel | None = None,
        **changes: Any,
    ) -> Path:
        spec = make_spec(**changes)
        path = tmp_path / name
        n = spec.num_samples
        keys, labels = np.arange(n, dtype=np.uint64) * 7, np.arange(n) % 5 - 1
        logitstore.create(path, spec, keys=keys, labels=labels, tail_model=tail_model)
        with logitstore.writer(path) as writer:
            for epoch in range(spec.num_epochs):
                for block in range(spec.num_blocks):
                    if (epoch, block) not in missing:
                        writer.write(epoch, block, **rows_for(spec, epoch, block))
        return path

    return make


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    """Every committed value of a store as bytes, by array: two stores are equal when these are."""

    def read(path: Path) -> dict[str, bytes]:
        store = logitstore.open(path)
        whole = {"keys": store.keys(slice(None)).tobytes(), "labels": store.labels(slice(None)).tobytes()}
        for epoch, block in np.argwhere(store.done()).tolist():
            rows = store.read(epoch=epoch, rows=store.spec.block_rows(block))
            for name in ("seeds", "indices", "logprobs", "tail"):
                whole[f"{name} {epoch} {block}"] = getattr(rows, name).tobytes()
            whole[f"proof {epoch} {block}"] = str(store.proof(epoch, block)).encode()
        return whole

    return read
