"""From dense logits to the top-k and the tail that a store holds, in numpy. `Writer.write_logits` is its user."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK_ELEMENTS = 2**22
"""How many logits are worked on at a time; each takes 8 bytes, a few times over."""


def select_topk(
    logits_nc: NDArray[Any], *, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """The k largest probabilities of the softmax of logits, and the mass of the rest, computed in float64.

    **Arguments** logits_nc: (n, C) floats, not NaN or plus infinity; log-probabilities will do as well; 1 <= k <= C.

    **Returns** indices (n, k) int64, most probable first, of equally probable classes the lower number first;
    natural log-probabilities (n, k) float32; natural log of the mass of all other classes (n,) float32, minus infinity
    where there is none.

    Raises `ValueError` for other logits.
    """
    if logits_nc.ndim != 2 or logits_nc.dtype.kind != "f" or not 1 <= k <= logits_nc.shape[1]:
        raise ValueError(f"logits are {logits_nc.dtype} {logits_nc.shape}, expected floats (n, C) with C at least {k}")
    n, num_classes = logits_nc.shape
    indices_nk = np.empty((n, k), np.int64)
    logprobs_nk, tail_n = np.empty((n, k), np.float32), np.empty(n, np.float32)
    step = max(1, _CHUNK_ELEMENTS // num_classes)
    for first in range(0, n, step):
        part = slice(first, first + step)
        logits = logits_nc[part].astype(np.float64)
        highest = logits.max(axis=1, keepdims=True)
        if not np.isfinite(highest).all():  # A NaN anywhere in a row is its maximum, too.
            raise ValueError(f"the logits of row {first + int(np.argmin(np.isfinite(highest)))} are not finite")
        order = np.argsort(-logits, axis=1, kind="stable")  # Of the logits: after the softmax, near ones may be equal.
        logits -= highest
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        indices_nk[part] = order[:, :k]
        logprobs = np.take_along_axis(logprobs, order, axis=1)
        logprobs_nk[part] = logprobs[:, :k]
        with np.errstate(divide="ignore"):
            tail_n[part] = np.log(np.exp(logprobs[:, k:]).sum(axis=1))
    return indices_nk, logprobs_nk, tail_n
