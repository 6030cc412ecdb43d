"""Contraction at small scale: is a searched architecture better than uniform scaling of the width?

    python scripts/studies/contract_small.py runs/contract_small --processes 2

On the embedded Fashion-MNIST and its teacher: a TinyViT of about 1 M parameters is contracted to a half of its
parameters and multiply-accumulates, and from there to a quarter. For each seed there is one search whose candidates
inherit weights and one whose candidates start from random weights. Uniform scaling multiplies all widths by one factor,
rounded so that as much as possible of the same limits is used. Then every architecture is trained from the store, from
random weights and in equal steps, once per seed, and evaluated on the test images. Prints a table. The same command
resumes where it was stopped. Searches and trainings take one thread each, `--processes` of them in parallel.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import yaml

from distill.models import TinyViTConfig
from distill.models.cost.formula import Cost, cost_of

ROOT = Path(__file__).resolve().parents[2]
HEAD_DIM = 8
SEED = TinyViTConfig(
    num_classes=10, image_size=28, dims=(40, 72, 104, 136), depths=(2, 2, 3, 2), heads=(5, 9, 13, 17),
    windows=(7, 4, 2, 1),
)  # fmt: skip
FRACTIONS = {"half": 0.5, "quarter": 0.25}
OPTIM = ("optim.base_batch=null", "optim.lr=2e-3", "optim.min_lr=1e-5", "train.batch_size=64")
SPACE = (
    "strides.dims=8", "strides.windows=2", "strides.expand=0.5", "strides.mlp_ratio=0.5", "strides.head_dim=0",
    "least.dims=[8,8,8,8]", "least.windows=[2,2,2,1]", f"least.head_dim={HEAD_DIM}",
)  # fmt: skip

Rows = dict[str, list[tuple[TinyViTConfig, float]]]
"""Kind and fraction, by name -> architecture and top-1 in percent of each seed."""


def run(program: Sequence[str], arguments: Sequence[str], *, log: Path) -> None:
    """Runs a program of the project; its output goes to a file.

    **Raises** `click.ClickException` where it fails.
    """
    command = [sys.executable, *program, *arguments]
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
    click.echo(f"$ {' '.join(command[1:])} > {log}", err=True)
    with log.open("ab") as out:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    if done.returncode:
        raise click.ClickException(f"{' '.join(program)} failed with exit code {done.returncode}: see {log}")


def make_data(work: Path, *, epochs: int) -> list[str]:
    """Packs the images and runs the teacher, as the quick start does. **Returns** the arguments that name them."""
    log = work / "log/data.txt"
    if not (work / "val/catalog/catalog.json").exists():
        run(["scripts/demo/fashion_mnist.py"], ["unpack", str(work / "images")], log=log)
        for split in ("train", "val"):
            run(["-m", "distill.pack"], [str(work / "images" / split), str(work / split), "--workers", "1"], log=log)
    store = [f"store.path={work / 'teacher.zarr'}"]
    run(["-m", "distill.save_logits"], [
        f"data.path={work / 'train'}", *store, "teacher=tiny_vit", "teacher.weights=scripts/demo/teacher.safetensors",
        "view=fashion", "store.topk=3", f"store.epochs={epochs}", "batch_size=256", "data.workers=1",
    ], log=log)  # fmt: skip
    return [f"data.path={work / 'train'}", *store, "data.workers=1"]


def limits(fraction: float) -> Cost:
    """A fraction of the cost of the first architecture."""
    cost = cost_of(SEED)
    return Cost(int(cost.params * fraction), int(cost.macs * fraction))


def student_arguments(config: TinyViTConfig) -> list[str]:
    """Settings of an architecture."""
    fields = ("dims", "depths", "heads", "windows", "mlp_ratio", "expand", "stem_stride")
    values = config.to_json()
    return ["student=tiny_vit_micro", f"student.image_size={config.image_size}"] + [
        f"student.{name}={str(values[name]).replace(' ', '')}" for name in fields
    ]


def uniform(fraction: float) -> TinyViTConfig:
    """The first architecture with all widths scaled by one factor and rounded, up or down, to whole heads: the one that
    uses most of the limits."""
    limit = limits(fraction)
    best, used = SEED, 0.0
    for percent, *up in itertools.product(range(1, 100), *[(0, 1)] * 4):
        heads = tuple(max(1, w * percent // (100 * HEAD_DIM) + u) for w, u in zip(SEED.dims, up, strict=True))
        config = dataclasses.replace(SEED, dims=tuple(n * HEAD_DIM for n in heads), heads=heads)
        cost = cost_of(config)
        use = cost.params / limit.params + cost.macs / limit.macs
        if cost.params <= limit.params and cost.macs <= limit.macs and use > used:
            best, used = config, use
    return best


def contract(
    work: Path, data: Sequence[str], *, inherit: str, seed: int, candidates: int, steps: int, seed_steps: int
) -> dict[str, TinyViTConfig]:
    """Searches for a half, and from there for a quarter. **Returns** the architecture for each of `FRACTIONS`."""
    found: dict[str, TinyViTConfig] = {}
    # Candidates should inherit well-trained weights.
    start = [*student_arguments(SEED), *([f"search.seed_steps={seed_steps}"] if inherit == "slice" else [])]
    for fraction in FRACTIONS:
        limit, name = limits(FRACTIONS[fraction]), f"{inherit}-{seed}-{fraction}"
        folder = work / "search" / name
        run(["-m", "distill.contract"], [
            *data, *start, *SPACE, *OPTIM, f"limits.params={limit.params}", f"limits.macs={limit.macs}",
            f"search.seed={seed}", f"train.seed={seed}", f"search.inherit={inherit}",
            f"search.candidates={candidates}", f"train.steps={steps}", f"run.dir={folder}", "compute.threads=1",
        ], log=work / f"log/search-{name}.txt")  # fmt: skip
        found[fraction] = TinyViTConfig.from_json(json.loads((folder / "summary.json").read_text())["config"])
        start = ["--config-dir", str(folder / "conf"), "student=contracted"]
        if inherit == "slice":
            start += [f"student.init={folder / 'contracted.safetensors'}", "search.seed_steps=0"]
    return found


def train(work: Path, data: Sequence[str], config: TinyViTConfig, *, name: str, seed: int, steps: int) -> float:
    """Trains an architecture from random weights. **Returns** top-1 on the test images in percent."""
    folder = work / "train" / f"{name}-{seed}"
    run(["-m", "distill.train_student"], [
        *data, f"data.val_path={work / 'val'}", *student_arguments(config), *OPTIM, f"train.steps={steps}",
        f"train.seed={seed}", "eval.full=true", "eval.every=0", f"run.dir={folder}", "compute.threads=1",
    ], log=work / f"log/train-{folder.name}.txt")  # fmt: skip
    trained = yaml.safe_load((folder / "config.yaml").read_text())["student"]
    assert tuple(trained["dims"]) == config.dims
    return float(json.loads((folder / "summary.json").read_text())["top1"])


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--seeds", default=3, show_default=True, help="Searches of each kind, and trainings of each result.")
@click.option("--inherit", multiple=True, default=("slice", "fresh"), show_default=True, help="Kinds of searches.")
@click.option("--candidates", default=8, show_default=True, help="Candidates trained per round.")
@click.option("--proxy-steps", default=94, show_default=True, help="Steps of a candidate's training.")
@click.option("--steps", default=744, show_default=True, help="Steps of the trainings that are compared.")
@click.option("--epochs", default=8, show_default=True, help="Stored epochs.")
@click.option("--processes", default=2, show_default=True, help="Searches and trainings in parallel.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--plot", type=click.Path(path_type=Path), help="Accuracy against parameters, as a PNG.")
def main(
    work: Path, seeds: int, inherit: tuple[str, ...], candidates: int, proxy_steps: int, steps: int, epochs: int,
    processes: int, json_file: Path | None, plot: Path | None,
) -> None:  # fmt: skip
    """Compares contraction with uniform scaling of width in WORK. Prints a table in Markdown."""
    work = work.absolute()
    data = make_data(work, epochs=epochs)
    with ThreadPoolExecutor(processes) as pool:  # Each thread waits for a program.
        settings = {"candidates": candidates, "steps": proxy_steps, "seed_steps": steps}
        searches = {
            (kind, seed): pool.submit(contract, work, data, inherit=kind, seed=seed, **settings)
            for seed in range(seeds)
            for kind in inherit
        }
        entries = [("seed", SEED, seed) for seed in range(seeds)]
        entries += [
            (f"uniform {fraction}", uniform(FRACTIONS[fraction]), seed)
            for fraction in FRACTIONS
            for seed in range(seeds)
        ]
        for (kind, seed), search in searches.items():
            entries += [
                (f"contracted {fraction}, {kind}", config, seed) for fraction, config in search.result().items()
            ]
        trainings = [
            pool.submit(train, work, data, config, name=name.replace(" ", "-").replace(",", ""), seed=seed, steps=steps)
            for name, config, seed in entries
        ]
        rows: Rows = {}
        for (name, config, _), training in zip(entries, trainings, strict=True):
            rows.setdefault(name, []).append((config, training.result()))
    rows = dict(sorted(rows.items(), key=lambda row: row[0].split()[1:2]))
    click.echo("| architecture | dims, depths, expand, MLP ratio | params M | MACs M | top-1 % | mean |")
    click.echo("|---" * 6 + "|")
    for name, results in rows.items():
        click.echo(table_row(name, results))
    if json_file:
        flat = {name: [{"config": c.to_json(), "top1": top1} for c, top1 in results] for name, results in rows.items()}
        json_file.write_text(json.dumps(flat, indent=1) + "\n")
    if plot:
        draw(rows, plot)


def table_row(name: str, results: Sequence[tuple[TinyViTConfig, float]]) -> str:
    """One line of the table; equal architectures of several seeds are shown once."""
    configs = list(dict.fromkeys(config for config, _ in results))
    shapes = [f"{list(c.dims)} {list(c.depths)} {c.expand:g} {c.mlp_ratio:g}" for c in configs]
    params = [f"{cost_of(config).params / 1e6:.3f}" for config in configs]
    macs = [f"{cost_of(config).macs / 1e6:.2f}" for config in configs]
    scores = [top1 for _, top1 in results]
    spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    cells = ["<br>".join(values) for values in (shapes, params, macs)]
    each = ", ".join(f"{score:.2f}" for score in scores)
    return f"| {name} | {' | '.join(cells)} | {each} | {statistics.mean(scores):.2f}{spread} |"


def draw(rows: Rows, file: Path) -> None:
    """Top-1 of every training against the parameters of its architecture, and the mean of each kind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    kinds = list(dict.fromkeys(_kind(name) for name in rows))
    for colour, kind in zip(("#000000", "#0072b2", "#d55e00", "#009e73"), kinds, strict=False):
        of_kind = [results for name, results in rows.items() if _kind(name) == kind]
        means = [[statistics.mean(axis) for axis in zip(*map(_point, results), strict=True)] for results in of_kind]
        points = [_point(result) for results in of_kind for result in results]
        axes.plot(*zip(*points, strict=True), "o", color=colour, alpha=0.4, markersize=4)
        axes.plot(*zip(*means, strict=True), "D-", color=colour, label=kind, markersize=6)
    axes.set(xlabel="parameters, millions", ylabel="top-1 on the test images, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=110)


def _kind(name: str) -> str:
    """`contracted half, slice` -> `contracted, slice`."""
    for fraction in FRACTIONS:
        name = name.replace(f" {fraction}", "")
    return name


def _point(result: tuple[TinyViTConfig, float]) -> tuple[float, float]:
    return cost_of(result[0]).params / 1e6, result[1]


if __name__ == "__main__":
    main()
