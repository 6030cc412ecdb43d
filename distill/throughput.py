"""How fast a model answers, pictures being there already."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from distill.runtime import Normalise, Runtime

_WARM_UP = 3


@torch.inference_mode()
def images_per_second(
    net: nn.Module, *, size: int, batch_size: int, batches: int, normalise: Normalise, runtime: Runtime
) -> float:
    """Pictures a second of all processes together: the median batch of this process, after three to warm up, times
    their number. Normalisation is counted, loading and copying to the device are not.

    **Arguments:** `batches` of random uint8 pictures (batch_size, size, size, 3).
    """
    net.eval()
    pixels_bhwc = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8, device=runtime.device)
    seconds = []
    for _ in range(_WARM_UP + batches):
        began = time.perf_counter()
        with runtime.accelerator.autocast():
            net(normalise(pixels_bhwc))
        if runtime.device.type == "cuda":
            torch.cuda.synchronize(runtime.device)
        seconds.append(time.perf_counter() - began)
    return runtime.world * batch_size / statistics.median(seconds[_WARM_UP:])
