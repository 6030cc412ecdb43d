"""The processes of a run: accelerate's, set up the same for all programs."""

from __future__ import annotations

import ctypes
import datetime
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list
from torch import nn

from distill.config import ComputeConfig
from distill.errors import DistillError, UsageError
from distill.runtime.allocator import keep_freed_memory
from distill.runtime.model_input import memory_format

Value = TypeVar("Value")

GROUP_TIMEOUT = datetime.timedelta(hours=24)
"""How long processes wait for each other: one may be writing, or reading from object storage."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """This process among the processes of the run."""

    accelerator: Accelerator

    @property
    def rank(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def world(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        return torch.device(self.accelerator.device)

    @property
    def pin(self) -> bool:
        """Whether batches are copied to the device from pinned memory."""
        return self.device.type == "cuda"

    def say(self, text: str) -> None:
        """Prints a line, from the main process only."""
        if self.is_main:
            print(text, flush=True)

    def from_main(self, work: Callable[[], Value]) -> Value:
        """Calls `work` in the main process and gives its result to every process. All must call.

        **Raises:** in the main process the error that `work` raised; the other processes then exit with 1.
        """
        error: Exception | None = None
        result: list[Any] = [None, False]
        if self.is_main:
            try:
                result = [work(), True]
            except DistillError as raised:
                error = raised
        if self.world > 1:
            broadcast_object_list(result)
        if error:
            raise error
        value, succeeded = result
        if not succeeded:
            sys.exit(1)
        return cast(Value, value)

    def place(self, net: nn.Module, compute: ComputeConfig) -> None:
        """Moves a model to this process's device and memory format, and compiles it, as the settings say."""
        net.to(device=self.device)
        net.to(memory_format=memory_format(compute.channels_last))
        if compute.compile:
            net.compile()

    def finish(self) -> None:
        """Waits for all processes and ends their group."""
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()


def start(compute: ComputeConfig, *, trackers: Sequence[str] = (), tracker_folder: Path | None = None) -> Runtime:
    """Joins the process group that torchrun or accelerate launched, or starts a single process, and prints which.

    **Arguments:** `trackers`: accelerate's names of them; those that write files write under `tracker_folder`.

    **Raises:** `UsageError` for a precision that the device does not have.
    """
    _end_with_launcher()
    on_gpu = torch.cuda.is_available()
    if compute.precision == "fp16" and not on_gpu:
        raise UsageError("compute.precision=fp16 needs a GPU: take bf16 or no on a CPU")
    if compute.threads:
        torch.set_num_threads(compute.threads)
    if not on_gpu:
        keep_freed_memory()
    else:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    accelerator = Accelerator(
        cpu=not on_gpu,
        mixed_precision=compute.precision,
        log_with=list(trackers) or None,
        project_dir=str(tracker_folder) if trackers else None,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=GROUP_TIMEOUT),
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
        ],
    )
    runtime = Runtime(accelerator)
    processes = "1 process" if runtime.world == 1 else f"{runtime.world} processes"
    runtime.say(f"{processes} on {runtime.device.type}, precision {compute.precision}")
    return runtime


def _end_with_launcher() -> None:
    """Ends a process that torchrun or accelerate started when its launcher is killed, as the launcher itself does when
    another process fails. Otherwise it would wait for its peers and hold its GPU and, in a teacher pass, the store's
    lock. The signal is SIGKILL: SIGTERM asks a pass to finish its step, which it cannot do without its peers. Linux
    only (PR_SET_PDEATHSIG of prctl); elsewhere nothing is done."""
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
