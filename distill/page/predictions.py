"""What the teacher said of one view, ready to be drawn as bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import logitstore
from distill.page.classes import Classes
from distill.page.scan import probability_of
from logitstore.tools.stats import quantities


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One class, or some together."""

    name: str
    probability: float
    kind: str
    """`kept`: stored exactly; `drawn`: met by draws; `others`: kept classes that are not shown one by one; `tail`."""
    note: str = ""
    is_label: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The teacher's answer to one view."""

    bars: tuple[Bar, ...]
    kept_mass: float
    tail_mass: float
    entropy: float
    """In nats, the tail spread evenly."""
    label_probability: float | None
    """None where the label is not one of the teacher's classes."""
    note: str
    """What the bars do not show."""


def answer(
    view: logitstore.Rows, spec: logitstore.StoreSpec, classes: Classes, *, label: int, most: int
) -> Answer | None:
    """The answer to a view of one row; None where nothing was kept of it.

    **Arguments:** `label`: the teacher's class that the row's label stands for, -1: none; `most`: classes shown one by
    one, the label's besides.
    """
    stored = np.isfinite(view.logprobs[0])
    if not stored.any():
        return None
    indices = view.indices[0][stored].tolist()
    probabilities = np.exp(view.logprobs[0][stored].astype(np.float64)).tolist()
    drawn = view.drawn[0][stored].tolist() if view.drawn is not None else [False] * len(indices)
    bars = [
        Bar(
            name=classes.name(index), probability=probability, kind="drawn" if was_drawn else "kept",
            note=_drawn_note(spec, probability) if was_drawn else "", is_label=index == label,
        )
        for index, probability, was_drawn in zip(indices, probabilities, drawn, strict=True)
    ]  # fmt: skip
    shown = [bar for place, bar in enumerate(bars) if place < most or bar.is_label]
    if left := len(bars) - len(shown):
        mass = sum(probabilities) - sum(bar.probability for bar in shown)
        shown.append(Bar(name=f"{left} more kept", probability=mass, kind="others"))
    tail = float(np.exp(view.tail[0]))
    if others := spec.num_classes - len(indices):
        shown.append(Bar(name=f"{others:,} not kept", probability=tail, kind="tail"))
    figures = quantities(view)
    return Answer(
        bars=tuple(shown),
        kept_mass=float(figures["kept_mass"][0]),
        tail_mass=tail,
        entropy=float(figures["entropy"][0]),
        label_probability=float(probability_of(view, np.array([label]))[0]) if label >= 0 else None,
        note="" if label < 0 or label in indices else f"The label, {classes.name(label)}, is not among them.",
    )


def _drawn_note(spec: logitstore.StoreSpec, probability: float) -> str:
    """How a class came to be kept by draws."""
    return f"drawn {round(probability * spec.draws)} x" if spec.draws else "drawn"
