"""How two stores differ: in what they are meant to hold, in what is written, in what was said."""

from collections.abc import Callable
from typing import Any

import numpy as np

from logitstore.errors import StoreConflict
from logitstore.layout import SAMPLE_ARRAYS
from logitstore.rows import Rows
from logitstore.spec import differences
from logitstore.store import Store
from logitstore.transfer import same_block


def compare(one: Store, other: Store, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Compare two stores of the same rows, block by block, as JSON values.

    **Returns** `same`; `spec`: lines of what differs; `samples_differ`: arrays of sample columns; `only_in_a`,
    `only_in_b`: blocks committed in one alone; `blocks_equal`, and of the `blocks_differing` in numbers: views with
    other seeds, blocks with another proof, views with another most probable class, mean and largest KL(A || B) in nats
    with each tail spread evenly.

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
    alike = (one.spec.encoding, one.spec.topk, one.spec.log_step, one.spec.tail_step) == (
        other.spec.encoding, other.spec.topk, other.spec.log_step, other.spec.tail_step,
    )  # fmt: skip
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
    samples = [name for name in SAMPLE_ARRAYS if not _same_samples(one, other, name)]
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
    )


def _same_samples(one: Store, other: Store, name: str) -> bool:
    parts = zip(one.files.sample_parts(name), other.files.sample_parts(name), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in parts)
