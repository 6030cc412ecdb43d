"""A store made anew from another one, with fewer kept classes or in another encoding.

What is dropped goes to the tail: the mass of the classes that are no longer kept is added to it, never forgotten.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from logitstore.create import create_like
from logitstore.errors import SpecError, StoreConflict, StoreMissing
from logitstore.rows import Rows
from logitstore.spec import StoreSpec, differences
from logitstore.store import Store, require_epoch
from logitstore.store import open as open_store
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
    """Write the committed blocks of `source` into `target` with other settings; go on where it was stopped.

    Seeds, proofs, keys, labels and the tail model stay. From `log8` to `log8` the ratios of the classes that stay are
    exact; the tail is rounded anew. Of classes that are stored as equally probable, those of low numbers stay.

    **Arguments** topk: kept classes, at most as many as now; encoding: `log8` or `float16`; epochs: which of them;
    None keeps each as it is.

    **Returns** the target's spec. Raises as `open` does, `SpecError`, `OutOfRange`, `StoreConflict`, `DamagedBlock`.
    """
    origin = open_store(source)
    spec = recoded_spec(origin.spec, topk=topk, encoding=encoding)
    present = _target(target, spec)
    if present is None:
        create_like(target, origin, spec=spec)
        present = open_store(target)
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
            rows = keep_fewer(origin.read(epoch=epoch, rows=origin.spec.block_rows(block)), topk=spec.topk)
            out.write(
                epoch,
                block,
                seeds=rows.seeds,
                indices=rows.indices,
                logprobs=rows.logprobs,
                tail=rows.tail,
                proof=origin.proof(epoch, block),
            )
    if progress is not None:
        progress("recoding blocks", len(todo), len(todo))
    return spec


def recoded_spec(spec: StoreSpec, *, topk: int | None, encoding: str | None) -> StoreSpec:
    """The spec of the recoded store; its `software` says what it was made from. Raises `SpecError`."""
    if spec.selection != "topk":
        raise SpecError(
            f"the store's classes were drawn (selection {spec.selection}): fewer of them, or other codes, would no "
            "longer be what was drawn; make another store from the teacher"
        )
    if topk is not None and topk > spec.topk:
        raise SpecError(f"topk={topk}: the store keeps {spec.topk} classes of a view, and cannot be given more")
    origin = {"topk": spec.topk, "encoding": spec.encoding}
    return replace(
        spec,
        topk=topk or spec.topk,
        encoding=encoding or spec.encoding,
        software={**spec.software, "recoded_from": origin},
    )


def keep_fewer(rows: Rows, *, topk: int) -> Rows:
    """The `topk` most probable of the kept classes; the mass of the others is added to the tail."""
    dropped = rows.logprobs[:, topk:]
    if not dropped.shape[1]:
        return rows
    tail = np.logaddexp(rows.tail.astype(np.float64), np.logaddexp.reduce(dropped.astype(np.float64), axis=1))
    return replace(
        rows,
        indices=rows.indices[:, :topk],
        logprobs=rows.logprobs[:, :topk],
        tail=np.minimum(tail, 0).astype(np.float32),
    )


def _target(target: str | Path, spec: StoreSpec) -> Store | None:
    try:
        present = open_store(target)
    except StoreMissing:
        return None
    if lines := differences(present.spec, spec):
        text = "\n  ".join(lines)
        raise StoreConflict(f"{present.path} is a store of something else; nothing was written to it\n  {text}")
    return present
