# mypy: disable-error-code="no-any-return, no-untyped-call, untyped-decorator"
# (torch does not type what a module returns)
"""Gradient checkpointing: of each block only the input is kept, the rest is computed again for the gradients.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). Exact: random numbers come again, and
BatchNorm's running statistics take every batch once.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@torch.compiler.disable(recursive=False)  # Blocks are compiled, what surrounds them is not.
def checkpointed(blocks: nn.Sequential, x_bchw: Tensor) -> Tensor:
    """Applies `blocks` one after another, (b, c, h, w) -> (b, c, h, w), and keeps only what goes into each."""
    for block in blocks:

        def contexts(block: nn.Module = block) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _statistics_kept(block)

        x_bchw = checkpoint(block, x_bchw, use_reentrant=False, context_fn=contexts)
    return x_bchw


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """While a block is computed again, its BatchNorms update copies of their running statistics."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
