"""The result of a search: a report with its path and all candidates, a plot, a summary, and the student."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from distill.contraction.costs import Costs, format_costs
from distill.contraction.search import Search, SearchState
from distill.contraction.search_dir import Candidate, SearchDir, TrainedCandidate
from distill.contraction.train_candidate import student_of
from distill.files import read_json_object, write_file
from distill.models.contraction.space import changes

REPORT, PLOT, SUMMARY = "report.md", "pareto.png", "summary.json"
STUDENT, WEIGHTS = Path("conf/student/contracted.yaml"), "contracted.safetensors"
_COLUMNS = {
    "params": (1e6, "params M"),
    "macs": (1e6, "MACs M"),
    "latency_ms": (1, "ms"),
    "image_ms": (1, "ms in batch"),
}


def is_written(directory: SearchDir) -> bool:
    """Whether the search in a directory is finished."""
    return (directory.path / SUMMARY).exists()


def write(search: Search, state: SearchState) -> None:
    """Writes all files of the result, the summary last: where it is, the search is finished."""
    folder, best, limits = search.directory.path, state.done[0], search.final_limits
    by_name = {trained.name: trained for trained in state.results}
    path = path_to(best, by_name)
    is_plotted = plot(state.results, path, limits, folder / PLOT)
    write_file(folder / STUDENT, student_yaml(search, best))
    shutil.copyfile(search.directory.weights(best.name), folder / WEIGHTS)
    split = search.training.split
    lines = [
        f"# Contraction to {best.name}", "", f"Limits: {format_costs(limits)}.  ",
        f"Result: {format_costs(best.candidate.costs)}; loss {best.loss:.4f}, agreement {best.agreement:.2f} % on "
        f"{split.end - split.train} held-out rows.", "", "## Path", "", *table(path, by_name, bold=set()), "",
        "## All candidates", "",
        f"![candidates]({PLOT})" if is_plotted else "No plot: matplotlib is not installed.", "",
        *table(state.results, by_name, bold=state.selected),
    ]  # fmt: skip
    write_file(folder / REPORT, "\n".join(lines) + "\n")
    summary = {
        "result": best.name, "config": best.candidate.config.to_json(), "costs": dict(best.candidate.costs),
        "limits": limits, "loss": best.loss, "agreement": best.agreement, "path": [trained.name for trained in path],
        "candidates": len(state.results),
        "candidate_seconds": round(sum(trained.seconds for trained in state.results), 1),
    }  # fmt: skip
    write_file(folder / SUMMARY, json.dumps(summary, indent=1) + "\n")


def final_message(search: Search) -> str:
    """The result of a finished search and the command that trains it."""
    folder, config = search.directory.path, search.config
    summary = read_json_object(folder / SUMMARY)
    return (
        f"{folder} is finished: candidate {summary['result']} of {summary['candidates']}, "
        f"{format_costs(summary['costs'])}; see {folder / REPORT}\nto train it:\n"
        f"  python -m distill.train_student --config-dir {folder / 'conf'} student=contracted "
        f"data.path={config.data.path} store.path={config.store.path} run.dir=RUN\n"
        f"optional initial weights, those of its {config.train.steps or config.train.epochs} "
        f"{'steps' if config.train.steps else 'epochs'} in the search: student.init={folder / WEIGHTS}"
    )


def path_to(last: TrainedCandidate, by_name: dict[str, TrainedCandidate]) -> list[TrainedCandidate]:
    """The candidates from the initial architecture to `last`."""
    path = [last]
    while (parent := path[-1].candidate.parent) is not None:
        path.append(by_name[parent])
    return path[::-1]


def student_yaml(search: Search, best: TrainedCandidate) -> str:
    """The student as a file of conf/student/."""
    student, architecture = student_of(search.config, best.candidate.config), best.candidate.config
    names = ("name", "drop_path", "image_size", "dims", "depths", "heads", "windows", "mlp_ratio", "expand")
    values = {name: getattr(student, name) for name in (*names, "stem_stride", "mean", "std")}
    head = (
        f"# Contracted from {search.config.student.name} under {format_costs(search.final_limits)}.\n"
        f"# {format_costs(best.candidate.costs)} at {architecture.num_classes:,} classes and "
        f"{architecture.image_size} px.\n"
    )
    return head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def table(results: Sequence[TrainedCandidate], by_name: dict[str, TrainedCandidate], *, bold: set[str]) -> list[str]:
    """Lines of a Markdown table; `bold`: names in bold type."""
    costs = [name for name in _COLUMNS if name in results[0].candidate.costs]
    header = ["candidate", "from", "changes", *(_COLUMNS[name][1] for name in costs), "loss", "agreement %"]
    lines = [header, ["---"] * len(header)]
    for trained in results:
        candidate, diverged = trained.candidate, not math.isfinite(trained.loss)
        name = f"**{trained.name}**" if trained.name in bold else trained.name
        numbers = [f"{candidate.costs[cost] / _COLUMNS[cost][0]:.4g}" for cost in costs]
        scores = ["diverged", ""] if diverged else [f"{trained.loss:.4f}", f"{trained.agreement:.2f}"]
        lines.append([name, candidate.parent or "", _changes(candidate, by_name), *numbers, *scores])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _changes(candidate: Candidate, by_name: dict[str, TrainedCandidate]) -> str:
    config = candidate.config
    if candidate.parent is None:
        return f"dims {list(config.dims)}, depths {list(config.depths)}"
    changed = changes(by_name[candidate.parent].candidate.config, config)
    return ", ".join(f"{name} {before:g} to {after:g}" for name, (before, after) in changed.items())


def pareto_front(results: Sequence[TrainedCandidate], cost: str) -> list[TrainedCandidate]:
    """The candidates for which no other has both a lower cost and a lower loss, by rising cost."""
    front: list[TrainedCandidate] = []
    for trained in sorted(results, key=lambda trained: (trained.candidate.costs[cost], trained.loss)):
        if not front or trained.loss < front[-1].loss:
            front.append(trained)
    return front


def plot(results: Sequence[TrainedCandidate], path: Sequence[TrainedCandidate], limits: Costs, file: Path) -> bool:
    """Plots loss against parameters and multiply-accumulates: candidates by round, Pareto front, path, limits.

    **Returns** False, and writes nothing, without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    results = [trained for trained in results if math.isfinite(trained.loss)]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    rounds = [int(trained.name.split("-")[0]) for trained in results]
    for axes, cost in zip(figure.subplots(1, 2, sharey=True), ("params", "macs"), strict=True):
        unit, name = _COLUMNS[cost]
        points = axes.scatter(*_costs_and_losses(results, cost), c=rounds, cmap="viridis", s=18)
        front = _costs_and_losses(pareto_front(results, cost), cost)
        axes.step(*front, where="post", color="grey", linewidth=1, label="front")
        axes.plot(*_costs_and_losses(path, cost), color="tab:red", marker="o", markersize=4, label="path")
        if cost in limits:
            axes.axvline(limits[cost] / unit, color="black", linestyle=":", label="limit")
        axes.set(xlabel=name)
        axes.grid(alpha=0.3)
    axes.legend()
    figure.axes[0].set(ylabel="loss on held-out rows, nats")
    figure.colorbar(points, ax=figure.axes, label="round")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_file(file, picture.getvalue())
    return True


def _costs_and_losses(results: Sequence[TrainedCandidate], cost: str) -> tuple[list[float], list[float]]:
    unit, _ = _COLUMNS[cost]
    return [trained.candidate.costs[cost] / unit for trained in results], [trained.loss for trained in results]
