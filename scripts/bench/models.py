"""This project's TinyViT against timm's, training and inference: the rows of `bench_train.py` that need no data.

timm has its best setting: fused attention on a GPU, and none on a CPU, where that is faster. Both sides have the same
images, AdamW kernel, memory format, precision, threads and allocator.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import timm
import timm.layers
import torch
from torch import Tensor, nn

from distill import models

CLASSES = 1000
MODES = ("train", "infer")
PRECISIONS = {"f32": torch.float32, "bf16": torch.bfloat16}

Run = Callable[[], object]
Rates = dict[str, list[float]]
"""Row -> images/s in each turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    device: torch.device
    name: str
    """Of the student, as `models.build` takes it."""
    image_size: int
    batch: int
    compiled: bool


def take_turns(setting: Setting, *, turns: int) -> Rates:
    """Runs ours and timm's in turn, one call each, for every mode and precision; the first two turns warm up."""
    timm.layers.set_fused_attn(setting.device.type == "cuda")
    rates: Rates = {}
    for mode in MODES:
        for precision, dtype in PRECISIONS.items():
            print(f"{mode} {precision}{' compiled' if setting.compiled else ''} ...", file=sys.stderr, flush=True)
            runs = {side: _make(setting, side, mode, dtype) for side in ("timm", "ours")}
            for turn in range(-2, turns):
                for side in sorted(runs, reverse=turn % 2 == 0):
                    seconds = timed(runs[side], setting.device)
                    if turn >= 0:
                        rates.setdefault(f"{mode} {precision} {side}", []).append(setting.batch / seconds)
    return rates


def ratios(rates: Rates, *, suffix: str = "") -> dict[str, float]:
    """`train_f32_vs_timm` and so on: the median of the ratios within each turn."""
    medians = {}
    for mode in MODES:
        for precision in PRECISIONS:
            pair = zip(rates[f"{mode} {precision} ours"], rates[f"{mode} {precision} timm"], strict=True)
            medians[f"{mode}_{precision}_vs_timm{suffix}"] = median(ours / theirs for ours, theirs in pair)
    return medians


def timed(run: Run, device: torch.device) -> float:
    """Seconds of a call, until the device has finished."""
    synchronise(device)
    began = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _make(setting: Setting, side: str, mode: str, dtype: torch.dtype) -> Run:
    torch.manual_seed(0)
    device = setting.device
    net = _network(setting, side).to(device=device).to(memory_format=torch.channels_last)
    pixels = torch.randn(setting.batch, 3, setting.image_size, setting.image_size, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (setting.batch,), device=device)
    if mode == "train":
        return _training(net.train(), pixels, labels, dtype, compiled=setting.compiled)
    return _inference(net.eval(), pixels, dtype, compiled=setting.compiled)


def _network(setting: Setting, side: str) -> nn.Module:
    if side == "ours":
        return models.build(setting.name, num_classes=CLASSES, image_size=setting.image_size)
    return timm.create_model(f"{setting.name}_{setting.image_size}", num_classes=CLASSES, drop_path_rate=0.0)


def _training(net: nn.Module, pixels: Tensor, labels: Tensor, dtype: torch.dtype, *, compiled: bool) -> Run:
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    if compiled:
        net.compile()

    def step() -> None:
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=dtype != torch.float32):
            logits = net(pixels)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _inference(net: nn.Module, pixels: Tensor, dtype: torch.dtype, *, compiled: bool) -> Run:
    """Ours by `models.for_inference`; timm's network as it is, under autocast for bfloat16."""
    autocast = dtype != torch.float32 and not isinstance(net, models.TinyViT)
    if isinstance(net, models.TinyViT):
        net = models.for_inference(net, dtype=dtype)
    if compiled:
        net.compile()

    @torch.inference_mode()
    def infer() -> None:
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=autocast):
            net(pixels)

    return infer
