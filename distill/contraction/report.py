"""What a search leaves: a page with its path and all candidates, a plot, a summary, and the student."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from distill.contraction.costs import Costs, shown
from distill.contraction.search import Found, Task
from distill.contraction.search_dir import Folder, Trained, write_text
from distill.contraction.train_candidate import student_of
from distill.models.contraction.space import changes

REPORT, PLOT, SUMMARY = "report.md", "pareto.png", "summary.json"
STUDENT, WEIGHTS = Path("conf/student/contracted.yaml"), "contracted.safetensors"
_COLUMNS = {
    "params": (1e6, "params M"),
    "macs": (1e6, "MACs M"),
    "latency_ms": (1, "ms"),
    "image_ms": (1, "ms in batch"),
}


def is_written(folder: Folder) -> bool:
    """Whether the search in a folder has come to its end."""
    return (folder.path / SUMMARY).exists()


def write(task: Task, found: Found) -> None:
    """Writes all of it, the summary last: where it is, the search is finished."""
    folder, best = task.folder.path, found.done[0]
    by_name = {each.name: each for each in found.results}
    path = path_to(best, by_name)
    drawn = draw(found.results, path, task.targets, folder / PLOT)
    write_text(folder / STUDENT, student_yaml(task, best))
    shutil.copyfile(task.folder.weights(best.name), folder / WEIGHTS)
    picture = f"![candidates]({PLOT})" if drawn else "No plot: matplotlib is not installed."
    page = [
        f"# Contraction to {best.name}", "", f"Limits: {shown(task.targets)}.  ",
        f"Result: {shown(best.candidate.costs)}; loss {best.loss:.4f}, agreement {best.agreement:.2f} % on "
        f"{task.proxy.split.end - task.proxy.split.train} held-out rows.", "", "## Path", "",
        *table(path, by_name, kept=set()), "", "## All candidates", "", picture, "",
        *table(found.results, by_name, kept=found.kept),
    ]  # fmt: skip
    write_text(folder / REPORT, "\n".join(page) + "\n")
    summary = {
        "result": best.name, "config": best.candidate.config.to_json(), "costs": dict(best.candidate.costs),
        "limits": task.targets, "loss": best.loss, "agreement": best.agreement, "path": [each.name for each in path],
        "candidates": len(found.results), "candidate_seconds": round(sum(each.seconds for each in found.results), 1),
    }  # fmt: skip
    write_text(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")


def closing(task: Task) -> str:
    """The last words of a finished search: what came out and how to train it."""
    folder, config = task.folder.path, task.config
    summary = json.loads((folder / SUMMARY).read_text())
    return (
        f"{folder} is finished: candidate {summary['result']} of {summary['candidates']}, {shown(summary['costs'])}; "
        f"see {folder / REPORT}\nto train it:\n"
        f"  python -m distill.train_student --config-dir {folder / 'conf'} student=contracted "
        f"data.path={config.data.path} store.path={config.store.path} run.dir=RUN\n"
        f"its weights after {config.train.steps or config.train.epochs} "
        f"{'steps' if config.train.steps else 'epochs'} of search, to begin with: student.init={folder / WEIGHTS}"
    )


def path_to(last: Trained, by_name: dict[str, Trained]) -> list[Trained]:
    """The candidates from the start of the search to one of them."""
    path = [last]
    while (parent := path[-1].candidate.parent) is not None:
        path.append(by_name[parent])
    return path[::-1]


def student_yaml(task: Task, best: Trained) -> str:
    """The student as a file of conf/student/."""
    student, architecture = student_of(task.config, best.candidate.config), best.candidate.config
    names = ("name", "drop_path", "image_size", "dims", "depths", "heads", "windows", "mlp_ratio", "expand")
    values = {name: getattr(student, name) for name in (*names, "stem_stride", "mean", "std")}
    head = (
        f"# Contracted from {task.config.student.name} under {shown(task.targets)}.\n"
        f"# {shown(best.candidate.costs)} at {architecture.num_classes:,} classes and {architecture.image_size} px.\n"
    )
    return head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def table(results: Sequence[Trained], by_name: dict[str, Trained], *, kept: set[str]) -> list[str]:
    """Lines of a Markdown table."""
    costs = [name for name in _COLUMNS if name in results[0].candidate.costs]
    header = ["candidate", "from", "changes", *(_COLUMNS[name][1] for name in costs), "loss", "agreement %"]
    lines = [header, ["---"] * len(header)]
    for each in results:
        candidate = each.candidate
        name = f"**{each.name}**" if each.name in kept else each.name
        figures = [f"{candidate.costs[cost] / _COLUMNS[cost][0]:.4g}" for cost in costs]
        scores = [f"{each.loss:.4f}", f"{each.agreement:.2f}"] if math.isfinite(each.loss) else ["diverged", ""]
        lines.append([name, candidate.parent or "", _changes(each, by_name), *figures, *scores])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _changes(each: Trained, by_name: dict[str, Trained]) -> str:
    if each.candidate.parent is None:
        config = each.candidate.config
        return f"dims {list(config.dims)}, depths {list(config.depths)}"
    changed = changes(by_name[each.candidate.parent].candidate.config, each.candidate.config)
    return ", ".join(f"{name} {before:g} to {after:g}" for name, (before, after) in changed.items())


def front(results: Sequence[Trained], cost: str) -> list[Trained]:
    """Those that no other beats both in a cost and in loss, by rising cost."""
    best: list[Trained] = []
    for each in sorted(results, key=lambda each: (each.candidate.costs[cost], each.loss)):
        if not best or each.loss < best[-1].loss:
            best.append(each)
    return best


def draw(results: Sequence[Trained], path: Sequence[Trained], targets: Costs, file: Path) -> bool:
    """Loss against parameters and multiply-accumulates: candidates by round, the front, the path taken, the limits.

    **Returns** whether it was drawn: False without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    results = [each for each in results if math.isfinite(each.loss)]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    rounds = [int(each.name.split("-")[0]) for each in results]
    losses = [each.loss for each in results]
    for axes, cost in zip(figure.subplots(1, 2, sharey=True), ("params", "macs"), strict=True):
        unit, name = _COLUMNS[cost]

        def at(these: Sequence[Trained], cost: str = cost, unit: float = unit) -> list[Any]:
            return [each.candidate.costs[cost] / unit for each in these]

        dots = axes.scatter(at(results), losses, c=rounds, cmap="viridis", s=18)
        best = front(results, cost)
        axes.step(at(best), [each.loss for each in best], where="post", color="grey", linewidth=1, label="front")
        axes.plot(at(path), [each.loss for each in path], color="tab:red", marker="o", markersize=4, label="path")
        if cost in targets:
            axes.axvline(targets[cost] / unit, color="black", linestyle=":", label="limit")
        axes.set(xlabel=name)
        axes.grid(alpha=0.3)
    axes.legend()
    figure.axes[0].set(ylabel="loss on held-out rows, nats")
    figure.colorbar(dots, ax=figure.axes, label="round")
    figure.savefig(file, dpi=110)
    return True
