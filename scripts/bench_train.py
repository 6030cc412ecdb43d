"""Measures training and inference beside timm's, and the overhead of the teacher and the student pass.

    python scripts/bench_train.py                      # the table; on a GPU where there is one
    python scripts/bench_train.py --json train.json    # also a flat object of ratios and rates
    python scripts/bench_train.py --compile            # also both sides under torch.compile
    python scripts/bench_train.py --system-allocator   # leaves glibc's allocator as it is
    python scripts/bench_train.py --quick              # small networks, few turns: only shows that everything runs

The two rows of a pair take turns in one process. A ratio is the median of the ratios within each turn, so other work on
the machine disturbs it little. `bench/models.py` and `bench/passes.py` say what each ratio compares;
docs/training-speed.md says what was tried.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import torch
from rich.console import Console
from rich.table import Table

from distill.runtime.allocator import keep_freed_memory
from scripts.bench import models, passes

QUICK_STUDENT = (
    "student=tiny_vit_micro", "student.dims=[8,16,24,32]", "student.depths=[1,1,1,1]", "student.heads=[1,1,2,2]",
    "student.windows=[4,4,4,4]",
)  # fmt: skip


@click.command()
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write ratios and rates to this file.")
@click.option("--batch", type=click.IntRange(min=1), help="Images per batch; default: 16 on a CPU, 256 on a GPU.")
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.option("--turns", type=click.IntRange(min=1), help="Turns of every row; default: 9 on a CPU, 30 on a GPU.")
@click.option("--model", default="tiny_vit_5m", show_default=True, help="A published TinyViT, at 224 pixels.")
@click.option("--compile", "compiled", is_flag=True, help="Add rows of both sides under torch.compile.")
@click.option("--system-allocator", is_flag=True, help="Leave the C library's allocator as it is, for both sides.")
@click.option("--no-passes", is_flag=True, help="Leave out the rows of bench/passes.py.")
@click.option("--quick", is_flag=True, help="Small networks, few turns: only shows that everything runs.")
def main(
    target: Path | None, batch: int | None, threads: int, turns: int | None, model: str, compiled: bool,
    system_allocator: bool, no_passes: bool, quick: bool,
) -> None:  # fmt: skip
    """Measures training, inference and the passes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    torch.set_num_threads(threads)
    if not on_gpu and not system_allocator:
        keep_freed_memory()
    turns = 1 if quick else turns or (30 if on_gpu else 9)
    batch = batch or (2 if quick else 256 if on_gpu else 16)
    device_name = torch.cuda.get_device_name() if on_gpu else f"CPU, {threads} threads"
    title = f"{model} at 224, batch {batch}, {device_name}, {turns} turns"
    setting = models.Setting(device=device, name=model, image_size=224, batch=batch, compiled=False)
    ratios, rates = _models(setting, turns, title)
    if compiled:
        more = _models(replace(setting, compiled=True), turns, f"{title}, torch.compile")
        ratios, rates = ratios | more[0], rates | more[1]
    if not no_passes:
        pass_setting = passes.Setting(
            student=QUICK_STUDENT if quick else (f"student={model}",), image_size=32 if quick else 224, batch=batch,
            precision="bf16" if on_gpu else "no", threads=threads, workers=8 if on_gpu else 0,
            steps=20 if on_gpu and not quick else 2, turns=turns, rows=24 * batch if on_gpu else 6 * batch,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            figures = passes.pass_ratios(Path(folder), pass_setting)
        ratios |= {key: value for key, value in figures.items() if "_vs_" in key}
        more_rates = {key: value for key, value in figures.items() if "_vs_" not in key}
        _print(f"Passes, {title}", ("row", "median images/s"), {key: f"{v:.1f}" for key, v in more_rates.items()})
        rates |= more_rates
    _print("Ratios (bigger is better)", ("key", "ratio"), {key: f"{value:.3f}" for key, value in ratios.items()})
    if target is not None:
        target.write_text(json.dumps(ratios | {f"images_per_s: {key}": v for key, v in rates.items()}, indent=1) + "\n")


def _models(setting: models.Setting, turns: int, title: str) -> tuple[dict[str, float], dict[str, float]]:
    """Measures and prints. **Returns** ratios and median rates."""
    suffix = "_compiled" if setting.compiled else ""
    rates = models.take_turns(setting, turns=turns)
    medians = {f"{name}{suffix}": median(values) for name, values in rates.items()}
    _print(title, ("row", "median images/s"), {name: f"{value:.1f}" for name, value in medians.items()})
    return models.ratios(rates, suffix=suffix), medians


def _print(title: str, head: tuple[str, str], rows: dict[str, str]) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column(head[0])
    table.add_column(head[1], justify="right")
    for row in rows.items():
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
