"""How two stores differ: in their specs, in which blocks are written, and in what these hold."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitstore.errors import StoreConflict
from logitstore.format.layout import static_arrays
from logitstore.rows import Rows
from logitstore.spec import differences
from logitstore.store import Store
from logitstore.tools.transfer import same_block


def compare(one: Store, other: Store, *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Compare two stores of the same rows, block by block.

    **Returns** JSON values: `same`; `spec`: lines of what differs; `samples_differ`: sample columns, or arrays of the
    tail model; `only_in_a`, `only_in_b`: blocks committed in only one; `blocks_equal` and `blocks_differing`, and of
    the latter: blocks with another proof, views, views with other seeds, views with another most probable class, mean
    and largest KL(A || B) in nats with each tail uniform.

    Every byte of both is read and verified. Raises `DamagedBlock`, and `StoreConflict` where rows, blocks or classes
    differ in number, so that nothing can be compared.
    """
    for name in ("num_samples", "num_classes", "rows_per_block"):
        a_size, b_size = getattr(one.spec, name), getattr(other.spec, name)
        if a_size != b_size:
            raise StoreConflict(f"{one.path} has {name} {a_size}, {other.path} {b_size}: they cannot be compared")
    epochs = min(one.spec.num_epochs, other.spec.num_epochs)
    a_done, b_done = one.done(), other.done()
    both = np.argwhere(a_done[:epochs] & b_done[:epochs]).tolist()
    coding = ("selection", "encoding", "topk", "log_step", "tail_step")
    same_coding = all(getattr(one.spec, name) == getattr(other.spec, name) for name in coding)
    sums = {"blocks_differing": 0, "proofs_differing": 0, "seeds_differing": 0, "top1_differing": 0, "views": 0}
    kl_sum, kl_worst = 0.0, 0.0
    for count, (epoch, block) in enumerate(both):
        if progress is not None:
            progress(count, len(both))
        if same_coding and same_block(one, other, epoch, block, trust_markers=False):
            continue
        a, b = (store.read(epoch=epoch, rows=one.spec.block_rows(block)) for store in (one, other))
        divergence = kl(a, b)
        sums["blocks_differing"] += 1
        sums["proofs_differing"] += one.proof(epoch, block) != other.proof(epoch, block)
        sums["seeds_differing"] += int((a.seeds != b.seeds).sum())
        sums["top1_differing"] += int((a.indices[:, 0] != b.indices[:, 0]).sum())
        sums["views"] += len(a)
        kl_sum, kl_worst = kl_sum + float(divergence.sum()), float(np.maximum(kl_worst, divergence.max()))
    if progress is not None:
        progress(len(both), len(both))
    spec = differences(one.spec, other.spec)
    lines = [line.replace("store has", "A has").replace("request has", "B has") for line in spec]
    shared = [name for name in static_arrays(one.spec) if name in static_arrays(other.spec)]
    samples = [name for name in shared if not _same_array(one, other, name)]
    only_a, only_b = int(a_done.sum()) - len(both), int(b_done.sum()) - len(both)
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


def kl(a: Rows, b: Rows, *, chunk_rows: int = 256) -> NDArray[np.float64]:
    """KL(A || B) of each view in nats, (n,) float64, tails uniform; infinite where B has mass 0 and A has not."""
    out = np.empty(len(a))
    for first in range(0, len(a), chunk_rows):
        part = slice(first, first + chunk_rows)
        p, q = (_part(views, part).dense().astype(np.float64) for views in (a, b))
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(p > 0, p * (np.log(p) - np.log(q)), 0)
        out[part] = np.maximum(terms.sum(axis=1), 0)
    return out


def _part(views: Rows, part: slice) -> Rows:
    return Rows(
        seeds=views.seeds[part],
        indices=views.indices[part],
        logprobs=views.logprobs[part],
        tail=views.tail[part],
        num_classes=views.num_classes,
        drawn=None if views.drawn is None else views.drawn[part],
    )


def _same_array(one: Store, other: Store, name: str) -> bool:
    parts = zip(one.files.static_parts(name), other.files.static_parts(name), strict=False)
    same_shape = one.files.layouts[name].shape == other.files.layouts[name].shape
    return same_shape and all(np.array_equal(a, b) for a, b in parts)
