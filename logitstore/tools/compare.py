"""How two stores differ: in what they are meant to hold, in what is written, in what was said."""

from collections.abc import Callable
from typing import Any

import numpy as np

from logitstore.errors import StoreConflict
from logitstore.format.layout import once_arrays
from logitstore.rows import Rows
from logitstore.spec import differences
from logitstore.store import Store
from logitstore.tools.transfer import same_block


def compare(one: Store, other: Store, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Compare two stores of the same rows, block by block, as JSON values.

    **Returns** `same`; `spec`: lines of what differs; `samples_differ`: sample columns, or parts of the tail model;
    `only_in_a`, `only_in_b`: blocks committed in one alone; `blocks_equal`, and of the `blocks_differing` in numbers:
    views with other seeds, blocks with another proof, views with another most probable class, mean and largest
    KL(A || B) in nats with each tail spread evenly.

    Every byte of both is read and verified. Raises `DamagedBlock`, and `StoreConflict` where rows, blocks or classes
    differ in number, so that nothing can be compared.
    """
    for name in ("num_samples", "num_classes", "rows_per_block"):
        mine, theirs = getattr(one.spec, name), getattr(other.spec, name)
        if mine != theirs:
            raise StoreConflict(f"{one.path} has {name} {mine}, {other.path} {theirs}: they cannot be compared")
    epochs = min(one.spec.num_epochs, other.spec.num_epochs)
    mine, theirs = one.done(), other.done()
    both = np.argwhere(mine[:epochs] & theirs[:epochs]).tolist()
    coded = ("selection", "encoding", "topk", "log_step", "tail_step")
    alike = all(getattr(one.spec, name) == getattr(other.spec, name) for name in coded)
    sums = {"blocks_differing": 0, "proofs_differing": 0, "seeds_differing": 0, "top1_differing": 0, "views": 0}
    kl_sum, kl_worst = 0.0, 0.0
    for count, (epoch, block) in enumerate(both):
        if progress is not None:
            progress(count, len(both))
        if alike and same_block(one, other, epoch, block, trust_markers=False):
            continue
        a, b = (store.read(epoch=epoch, rows=one.spec.block_rows(block)) for store in (one, other))
        divergence = kl(a, b)
        sums["blocks_differing"] += 1
        sums["proofs_differing"] += one.proof(epoch, block) != other.proof(epoch, block)
        sums["seeds_differing"] += int((a.seeds != b.seeds).sum())
        sums["top1_differing"] += int((a.indices[:, 0] != b.indices[:, 0]).sum())
        sums["views"] += len(a)
        kl_sum, kl_worst = kl_sum + float(divergence.sum()), max(kl_worst, float(divergence.max()))
    if progress is not None:
        progress(len(both), len(both))
    spec = differences(one.spec, other.spec)
    lines = [line.replace("store has", "A has").replace("request has", "B has") for line in spec]
    shared = [name for name in once_arrays(one.spec) if name in once_arrays(other.spec)]
    samples = [name for name in shared if not _same_parts(one, other, name)]
    only_a, only_b = int(mine.sum()) - len(both), int(theirs.sum()) - len(both)
    return {
        "a": one.path,
        "b": other.path,
        "same": not (lines or samples or only_a or only_b or sums["blocks_differing"]),
        "spec": lines,
        "samples_differ": samples,
        "only_in_a": only_a,
        "only_in_b": only_b,
        "blocks_equal": len(both) - sums["blocks_differing"],
        **sums,
        "kl_mean": kl_sum / sums["views"] if sums["views"] else 0.0,
        "kl_worst": kl_worst,
    }


def kl(a: Rows, b: Rows, *, chunk_rows: int = 256) -> Any:
    """KL(A || B) of each row in nats, (n,) float64, tails spread evenly; infinite where B has mass 0 and A has not."""
    out = np.empty(len(a))
    for first in range(0, len(a), chunk_rows):
        part = slice(first, first + chunk_rows)
        p, q = (_part(rows, part).dense().astype(np.float64) for rows in (a, b))
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(p > 0, p * (np.log(p) - np.log(q)), 0)
        out[part] = np.maximum(terms.sum(axis=1), 0)
    return out


def _part(rows: Rows, part: slice) -> Rows:
    return Rows(
        seeds=rows.seeds[part],
        indices=rows.indices[part],
        logprobs=rows.logprobs[part],
        tail=rows.tail[part],
        num_classes=rows.num_classes,
        drawn=None if rows.drawn is None else rows.drawn[part],
    )


def _same_parts(one: Store, other: Store, name: str) -> bool:
    mine, theirs = one.files.layouts[name], other.files.layouts[name]
    parts = zip(one.files.once_parts(name), other.files.once_parts(name), strict=False)
    return mine.shape == theirs.shape and all(np.array_equal(a, b) for a, b in parts)
