"""Throughput of a model, and what a dry run reports: time and memory."""

from __future__ import annotations

import multiprocessing
import re
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.config.durations import as_clock
from distill.runtime.model_input import Normalise
from distill.runtime.processes import Runtime

_WARM_UP = 3
DRY_RUN_STEPS = 4
"""Steps of a dry run. The first one starts the loader and compiles, and is not timed."""


@torch.inference_mode()
def images_per_second(
    net: nn.Module, *, size: int, batch_size: int, batches: int, normalise: Normalise, runtime: Runtime
) -> float:
    """Images per second over all processes: from the median batch time of this process, after three warm-up batches.
    Normalisation is included; loading and copying to the device are not.

    **Arguments:** `batches`: how many batches of random uint8 images (batch_size, size, size, 3) are timed.
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


def describe_time(seconds: float) -> str:
    """Hours as a number and as hours:minutes:seconds."""
    return f"{seconds / 3600:,.2f} hours ({as_clock(seconds)})"


def describe_memory(runtime: Runtime) -> str:
    """Peak memory so far, each figure the largest over the processes. All must call, while their loaders are open."""
    unit = 1 if sys.platform == "darwin" else 1024
    own_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    workers = [peak for child in multiprocessing.active_children() if (peak := _peak_bytes(child.pid))]
    on_device = torch.cuda.max_memory_reserved() if runtime.device.type == "cuda" else 0
    peaks = torch.tensor([own_bytes, max(workers, default=0), on_device], dtype=torch.float64, device=runtime.device)
    own_gb, worker_gb, device_gb = (runtime.accelerator.gather(peaks).view(-1, 3).max(dim=0).values / 1e9).tolist()
    text = f"memory: {own_gb:.2f} GB at most in a process"
    text += (
        f", {worker_gb:.2f} GB in each of its {len(workers)} loader workers (shared pages counted)" if workers else ""
    )
    return text + (f", {device_gb:.2f} GB on its GPU" if device_gb else "")


def _peak_bytes(pid: int | None) -> int:
    """Peak memory of another process; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) * 1024 if peak else 0


def size_bytes(state: Mapping[Any, Any] | Sequence[Any] | object) -> int:
    """Bytes of all tensors in a nested state."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(size_bytes, state.values()))
    return sum(map(size_bytes, state)) if isinstance(state, list | tuple) else 0
