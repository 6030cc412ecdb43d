"""Tables in Markdown, one per question."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

NAMES = {"top1": "top-1 %", "agreement": "agreement with the teacher %", "kl": "KL to the teacher, nats"}
DIGITS = {"top1": 2, "agreement": 2, "kl": 4}


def markdown(results: dict[str, Any]) -> str:
    """All tables; a number is the mean over seeds ± their standard deviation."""
    return "\n".join([*(table(question) for question in results["questions"]), cost_table(results["costs"])])


def table(question: dict[str, Any]) -> str:
    """The arms of one question. The difference is in the question's metric, seed by seed."""
    arms = question["arms"]
    scores = [name for name in NAMES if name in arms[0]]
    stored = any(arm["store"] for arm in arms)
    columns = ["arm", *(NAMES[name] for name in scores), f"difference in {_short(question['metric'])}"]
    columns += ["bytes per view", "classes", "mass stored"] if stored else []
    columns += ["CPU seconds", "peak MB"]
    lines = [f"### ({question['key']}) {question['title']}", "", _line(columns), "|---" * len(columns) + "|"]
    for arm in arms:
        reference = reference_of(arm, arms, question["against"])
        cells = [arm["label"], *(spread(arm[name], DIGITS[name]) for name in scores)]
        cells.append(_difference(arm, reference, question["metric"]))
        if stored:
            cells += _facts(arm["store"])
        cells += [f"{statistics.mean(arm['cpu_seconds']):.0f}", f"{statistics.mean(arm['peak_mb']):.0f}"]
        lines.append(_line(cells))
    return "\n".join([*lines, ""])


def cost_table(costs: Sequence[dict[str, Any]]) -> str:
    """Time per step and peak memory of a process, with stored logits and with the teacher online."""
    if not costs:
        return ""
    head = [
        "student",
        "teacher",
        "rows per step",
        "seconds per step, stored",
        "online",
        "ratio",
        "peak MB, stored",
        "online",
    ]
    rows: dict[tuple[str, str], dict[tuple[str, ...], dict[str, Any]]] = {}
    for measured in costs:
        cost = measured["cost"]
        rows.setdefault((cost["student"], cost["teacher"]), {})[tuple(cost["arms"])] = measured
    lines = ["### (b) What a step costs", "", _line([*head, "ratio"]), "|---" * (len(head) + 1) + "|"]
    for (student, teacher), by_arms in rows.items():
        timed = by_arms["stored", "online"]
        seconds = {name: statistics.median(values) for name, values in timed["seconds_a_step"].items()}
        stored, online = (by_arms[(name,)]["peak_mb"] for name in ("stored", "online"))
        lines.append(_line([
            student, teacher, str(timed["cost"]["batch"]), f"{seconds['stored']:.3f}", f"{seconds['online']:.3f}",
            f"{timed['ratio']:.2f}", f"{stored:.0f}", f"{online:.0f}", f"{online / stored:.2f}",
        ]))  # fmt: skip
    return "\n".join([*lines, ""])


def reference_of(arm: dict[str, Any], arms: Sequence[dict[str, Any]], ending: str) -> dict[str, Any] | None:
    """The arm that `arm` is compared with: see `Question.against`."""
    references = [other for other in arms if other["label"].endswith(ending)]
    before = [other for other in arms[: arms.index(arm) + 1] if other in references]
    return before[-1] if before else references[0] if references else None


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and, of several, standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def _difference(arm: dict[str, Any], reference: dict[str, Any] | None, metric: str) -> str:
    if reference is None or reference is arm:
        return ""
    differences = [a - b for a, b in zip(arm[metric], reference[metric], strict=True)]
    text = spread(differences, DIGITS[metric])
    return text if text.startswith("-") else f"+{text}"


def _facts(store: dict[str, float] | None) -> list[str]:
    if store is None:
        return ["", "", ""]
    return [f"{store['bytes_per_view']:.2f}", f"{store['classes']:.2f}", f"{store['kept_mass']:.4f}"]


def _short(metric: str) -> str:
    return {"top1": "top-1", "agreement": "agreement", "kl": "KL"}[metric]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
