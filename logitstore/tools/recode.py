"""Make a store from another one, with a smaller k or in another encoding.

The mass of the classes that are dropped is added to the tail.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from logitstore.create import create_like, open_existing, require_spec
from logitstore.errors import SpecError
from logitstore.rows import Rows
from logitstore.spec import StoreSpec
from logitstore.store import open as open_store
from logitstore.store import require_epoch
from logitstore.tools.transfer import Progress
from logitstore.writer import writer


def recode(
    source: str | Path,
    target: str | Path,
    *,
    topk: int | None = None,
    encoding: str | None = None,
    epochs: Iterable[int] | None = None,
    progress: Progress | None = None,
) -> StoreSpec:
    """Write the committed blocks of `source` into `target` with other settings; continue where that was stopped.

    Seeds, proofs, keys, labels and the tail model stay. From `log8` to `log8` the ratios of the classes that stay are
    exact; the tail is rounded again. Of classes that are stored as equally probable, those of low numbers stay.

    **Arguments** topk: classes per view, at most as many as now; encoding: `log8` or `float16`; epochs: which stored
    epochs; None leaves each as it is; progress: called with (what is being done, blocks done, blocks to do).

    **Returns** the target's spec.

    Raises as `open` does, `SpecError`, `OutOfRange`, `StoreConflict`, `DamagedBlock`.
    """
    origin = open_store(source)
    spec = recoded_spec(origin.spec, topk=topk, encoding=encoding)
    present = open_existing(target)
    if present is None:
        create_like(target, origin, spec=spec)
        present = open_store(target)
    require_spec(present, spec)
    wanted = origin.done()
    if epochs is not None:
        chosen = set(epochs)
        for epoch in chosen:
            require_epoch(origin.spec, epoch)
        wanted[[e for e in range(len(wanted)) if e not in chosen]] = False
    todo = np.argwhere(wanted & ~present.done()).tolist()
    with writer(target) as out:
        for count, (epoch, block) in enumerate(todo):
            if progress is not None:
                progress("recoding blocks", count, len(todo))
            views = reduce_topk(origin.read(epoch=epoch, rows=origin.spec.block_rows(block)), topk=spec.topk)
            out.write(
                epoch,
                block,
                seeds=views.seeds,
                indices=views.indices,
                logprobs=views.logprobs,
                tail=views.tail,
                proof=origin.proof(epoch, block),
            )
    if progress is not None:
        progress("recoding blocks", len(todo), len(todo))
    return spec


def recoded_spec(spec: StoreSpec, *, topk: int | None, encoding: str | None) -> StoreSpec:
    """The spec of the recoded store; its `software` says what it was made from. Raises `SpecError`."""
    if spec.selection != "topk":
        raise SpecError(
            f"the store's classes were drawn (selection {spec.selection}): with fewer of them, or in other codes, "
            "their weights would no longer be those of the draws; make another store from the teacher"
        )
    if topk is not None and topk > spec.topk:
        raise SpecError(f"topk={topk}: the store has {spec.topk} classes per view, and more cannot be added")
    origin = {"topk": spec.topk, "encoding": spec.encoding}
    return replace(
        spec,
        topk=topk or spec.topk,
        encoding=encoding or spec.encoding,
        software={**spec.software, "recoded_from": origin},
    )


def reduce_topk(views: Rows, *, topk: int) -> Rows:
    """The `topk` most probable of the selected classes; the mass of the others is added to the tail."""
    dropped = views.logprobs[:, topk:]
    if not dropped.shape[1]:
        return views
    tail = np.logaddexp(views.tail.astype(np.float64), np.logaddexp.reduce(dropped.astype(np.float64), axis=1))
    return replace(
        views,
        indices=views.indices[:, :topk],
        logprobs=views.logprobs[:, :topk],
        tail=np.minimum(tail, 0).astype(np.float32),
    )
