"""Gradient checkpointing: only the input of each block is stored, the rest is recomputed in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). Exact: the recomputation draws the same
random numbers, and BatchNorm's running statistics are updated once per batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


# Blocks are compiled, the loop around them is not. torch does not type the decorator.
@torch.compiler.disable(recursive=False)  # type: ignore[no-untyped-call, untyped-decorator]
def checkpointed(blocks: nn.Sequential, x_bchw: Tensor) -> Tensor:
    """Applies `blocks` one after another, (b, c, h, w) -> (b, c, h, w), and stores only the input of each."""
    for block in blocks:

        def contexts(block: nn.Module = block) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _running_statistics_restored(block)

        x_bchw = checkpoint(block, x_bchw, use_reentrant=False, context_fn=contexts)
    return x_bchw


@contextmanager
def _running_statistics_restored(block: nn.Module) -> Iterator[None]:
    """While a block is recomputed, its BatchNorms update copies of their running statistics."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    statistics = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in statistics:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in statistics:
            setattr(norm, name, buffer)
