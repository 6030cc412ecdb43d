"""How well a store represents the teacher's full distribution: divergence, gradients, calibration.

    python scripts/bench/teacher_outputs.py runs/outputs.npy --views 12288
    python scripts/bench/teacher_outputs.py runs/student.npy --views 12288 --first 4096 --teacher efficientnet_lite1
    python scripts/studies/fidelity.py runs/outputs.npy --student runs/student.npy \\
        --plot docs/fidelity.png --json fidelity.json

For each selection, k and tail: bytes per view (of a store written to disk, all files of its blocks), KL(full ||
stored), and the gradient of the loss with respect to the student's logits, softmax(z) - q, against the one from the
full distribution: angle and ratio of norms, for single views (mean) and for the mean over all views. Two students:
`near`, another trained network on the same views (or, without --student, the teacher with noise on its logits), and
`early`, which gives every class the same probability. Calibration: the store's probability of its top class against the
teacher's probability of that class, in 15 bins of the store's (expected calibration error), and the mean difference
(overconfidence). `redrawn`: the mean gradient of selections that draw classes, with --seeds drawings per view, which is
what a student sees over as many epochs.

The first --views views, read back from disk, are evaluated; the learned tail is fitted on the others.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

import logitstore
from distill.targets.selection import Selection, select_targets
from distill.targets.sparse import SparseTargets
from distill.teacher.learned_tail import TailSums
from logitstore.tools.describe import describe_store

BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A selection of classes, an encoding, and a tail for the other classes."""

    selection: Selection
    tail: str = "none"
    encoding: str = "log8"
    max_mass: float = 1.0
    """Below 1: no classes after those that reach this mass together."""

    @property
    def name(self) -> str:
        selection = self.selection
        size = f"{selection.draws} draws" if selection.kind == "sample" else f"{selection.kind} {selection.topk}"
        mass = f", mass {self.max_mass:g}" if self.max_mass < 1 else ""
        return f"{size}{mass}" + (f", {self.tail}" if self.tail != "none" else "")


def cases(sizes: list[int]) -> list[Case]:
    """Everything that is compared."""
    all_cases = []
    for topk in sizes:
        all_cases += [
            Case(selection=Selection(kind="topk", topk=topk), tail=t)
            for t in ("dropped", "uniform", "global", "learned")
        ]
        all_cases.append(Case(selection=Selection(kind="hybrid", topk=topk)))
    for mass in (0.9, 0.99):
        all_cases.append(Case(selection=Selection(kind="topk", topk=max(sizes)), tail="learned", max_mass=mass))
    for draws in (12, 25, 50, 100, 200):
        all_cases.append(Case(selection=Selection(kind="sample", topk=draws, draws=draws), encoding="counts"))
    return all_cases


def end_at_mass(targets: SparseTargets, max_mass: float) -> SparseTargets:
    """Top-k targets without the classes after those that reach `max_mass` together, whose mass goes to the tail."""
    if max_mass == 1:
        return targets
    probs_bk = targets.logprobs.double().exp()
    past_bk = probs_bk.cumsum(dim=1) - probs_bk >= max_mass
    rest_b = targets.logprobs.masked_fill(~past_bk, -torch.inf).logsumexp(dim=1)
    return SparseTargets(
        targets.indices, targets.logprobs.masked_fill(past_bk, -torch.inf), targets.tail.logaddexp(rest_b)
    )


def write_and_read(
    folder: Path, logprobs_nc: Tensor, case: Case, *, seed: int = 0
) -> tuple[logitstore.Rows, float, float]:
    """Writes a store. **Returns** its rows as they are read back, bytes per view, and classes per view."""
    targets = select_targets(
        logprobs_nc, case.selection, seeds_b=np.arange(len(logprobs_nc), dtype=np.uint64) + np.uint64(seed << 32)
    )
    targets = end_at_mass(targets, case.max_mass)
    spec = logitstore.StoreSpec(
        num_samples=len(logprobs_nc), num_epochs=1, num_classes=logprobs_nc.shape[1], topk=case.selection.topk,
        selection=case.selection.kind, max_mass=case.max_mass, draws=case.selection.draws,
        encoding=case.encoding,
    )  # fmt: skip
    path = folder / "case.zarr"
    shutil.rmtree(path, ignore_errors=True)
    logitstore.create(path, spec, keys=np.arange(len(logprobs_nc)), labels=np.zeros(len(logprobs_nc), int))
    with logitstore.writer(path) as writer:
        for block in range(spec.num_blocks):
            numbers = spec.block_rows(block)
            part = slice(numbers.start, numbers.stop)
            writer.write(
                0,
                block,
                seeds=np.asarray(numbers, np.uint64),
                indices=targets.indices[part].numpy(),
                logprobs=targets.logprobs[part].numpy(),
                tail=targets.tail[part].numpy(),
                proof=1,
            )
    store = logitstore.open(path)
    rows = store.read(epoch=0, rows=slice(None))
    return rows, describe_store(store)["bytes_per_view"], float((rows.logprobs > -np.inf).sum(axis=1).mean())


def dense_targets(rows: logitstore.Rows, tail: str, models: dict[str, logitstore.TailModel]) -> np.ndarray:
    """(n, C) float64, the dense distribution that a student learns from, by the definitions in
    `distill.targets.losses`."""
    row_of, column_of = np.nonzero(rows.logprobs > -np.inf)
    dense = np.zeros((len(rows), rows.num_classes))
    dense[row_of, rows.indices[row_of, column_of]] = np.exp(rows.logprobs[row_of, column_of].astype(np.float64))
    mass = np.exp(rows.tail.astype(np.float64))[:, None]
    if tail in ("none", "dropped"):
        return dense / dense.sum(axis=1, keepdims=True)
    shape = np.ones_like(dense)
    if tail != "uniform":
        model = models[tail]
        shape = np.exp(model.logprobs.astype(np.float64))[model.groups[rows.indices[:, 0]]]
    shape = np.where(dense > 0, 0, shape)
    return dense + mass * shape / shape.sum(axis=1, keepdims=True)


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between vectors along the last axis."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=-1) / norms, -1, 1)))


def figures(stored: np.ndarray, full: np.ndarray, students: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Fidelity of stored distributions (n, C) to the full ones."""
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(full > 0, full * (np.log(full) - np.log(stored)), 0).sum(axis=1)
    facts: dict[str, float | None] = {"kl": float(divergence.mean()) if np.isfinite(divergence).all() else None}
    for name, probabilities in students.items():
        sparse, dense = probabilities - stored, probabilities - full
        mean_sparse, mean_dense = sparse.mean(axis=0), dense.mean(axis=0)
        facts |= {
            f"angle_view_{name}": float(degrees(sparse, dense).mean()),
            f"norm_view_{name}": float((np.linalg.norm(sparse, axis=1) / np.linalg.norm(dense, axis=1)).mean()),
            f"angle_mean_{name}": float(degrees(mean_sparse, mean_dense)),
            f"norm_mean_{name}": float(np.linalg.norm(mean_sparse) / np.linalg.norm(mean_dense)),
        }
    top = stored.argmax(axis=1)
    confidence, teachers = stored[np.arange(len(top)), top], full[np.arange(len(top)), top]
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs((confidence - teachers)[bins == b].sum()) for b in range(BINS)]
    return facts | {"ece": float(sum(gaps) / len(top)), "overconfidence": float((confidence - teachers).mean())}


def tail_models(fitted: Tensor, topk: int) -> dict[str, logitstore.TailModel]:
    """Tail models: learned for each most probable class, and one for all."""
    num_classes = fitted.shape[1]
    models = {}
    for name, groups in (
        ("learned", torch.arange(num_classes)),
        ("global", torch.zeros(num_classes, dtype=torch.long)),
    ):
        sums = TailSums(groups)
        for part in fitted.split(1024):
            sums.add(part, topk=topk)
        models[name] = sums.model()
    return models


def plot(results: list[dict[str, object]], path: Path) -> None:
    """Plots angles against bytes: a line per selection and tail."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = [("angle_view_near", "gradient of one view: angle to the full one, degrees"),
              ("angle_mean_near", "mean gradient of all views: angle, degrees")]  # fmt: skip
    lines: dict[str, list[dict[str, object]]] = {}
    for result in results:
        lines.setdefault(str(result["line"]), []).append(result)
    both = figure.subplots(1, 2)
    for axes, (key, title) in zip(both, panels, strict=True):
        for name, points in lines.items():
            points.sort(key=lambda point: float(str(point["bytes"])))
            axes.plot([p["bytes"] for p in points], [p[key] for p in points], marker="o", markersize=4, label=name)
        axes.set(xscale="log", yscale="log", xlabel="bytes per view", title=title)
        axes.grid(alpha=0.3)
    both[0].legend(loc="lower left")
    figure.savefig(path, dpi=110)


def evaluate(
    case: Case, views: Tensor, fitted: Tensor, students: dict[str, np.ndarray], *, seeds: int
) -> dict[str, object]:
    """All figures of one case."""
    full = views.double().exp().numpy()
    models = tail_models(fitted, case.selection.topk) if case.tail in ("learned", "global") else {}
    with tempfile.TemporaryDirectory() as folder:
        rows, size, classes = write_and_read(Path(folder), views, case)
        stored = dense_targets(rows, case.tail, models)
        mean = stored.mean(axis=0)
        drawings = seeds if case.selection.kind != "topk" else 1
        for seed in range(1, drawings):
            mean += dense_targets(write_and_read(Path(folder), views, case, seed=seed)[0], case.tail, models).mean(
                axis=0
            )
    near = students["near"].mean(axis=0)
    redrawn = float(degrees(near - mean / drawings, near - full.mean(axis=0)))
    line = case.selection.kind + (f", {case.tail}" if case.tail != "none" else "")
    line += " at a mass" if case.max_mass < 1 else ""
    facts = {"name": case.name, "line": line, "bytes": size, "classes": classes}
    return facts | figures(stored, full, students) | {"redrawn_near": redrawn}


COLUMNS = (
    "name", "bytes", "classes", "kl", "angle_view_near", "norm_view_near", "angle_mean_near", "redrawn_near",
    "norm_mean_near", "angle_view_early", "angle_mean_early", "ece", "overconfidence",
)  # fmt: skip


@click.command()
@click.argument("outputs", type=click.Path(exists=True, path_type=Path))
@click.option("--student", type=click.Path(exists=True, path_type=Path), help="Another network's outputs, same views.")
@click.option(
    "--views",
    "--judged",
    "num_views",
    default=4096,
    show_default=True,
    help="Views to evaluate; the others fit the tail.",
)
@click.option("--sizes", default="5,10,20,50,100", show_default=True, help="Values of k, separated by commas.")
@click.option("--seeds", default=8, show_default=True, help="Drawings per view for the mean gradient.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path))
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    outputs: Path,
    student: Path | None,
    num_views: int,
    sizes: str,
    seeds: int,
    plot_file: Path | None,
    json_file: Path | None,
) -> None:
    """Evaluates stores of OUTPUTS, (n, C) log-probabilities in a .npy, and prints a table in Markdown."""
    logprobs = torch.from_numpy(np.load(outputs))
    fitted, views = logprobs[num_views:], logprobs[:num_views]
    torch.manual_seed(0)
    near = torch.from_numpy(np.load(student))[:num_views] if student else views + torch.randn(views.shape)
    students = {"near": near.double().softmax(dim=1).numpy(), "early": np.full(views.shape, 1 / views.shape[1])}
    results = []
    click.echo("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for case in cases([int(size) for size in sizes.split(",")]):
        results.append(evaluate(case, views, fitted, students, seeds=seeds))
        click.echo("| " + " | ".join(_text(results[-1][column]) for column in COLUMNS) + " |")
    if plot_file is not None:
        plot(results, plot_file)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=1) + "\n")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
    return "-" if value is None else str(value)


if __name__ == "__main__":
    main()
