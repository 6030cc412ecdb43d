"""The teacher's prediction for one view, as bars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import logitstore
from distill.page.classes import class_name
from distill.page.scan import probability_of
from logitstore.tools.names import ClassNames
from logitstore.tools.stats import quantities


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One class, or several together."""

    name: str
    probability: float
    kind: str
    """`topk`: one of the top-k classes, stored exactly; `drawn`: one that was drawn; `others`: the rest of the top-k;
    `tail`: all classes outside them."""
    note: str = ""
    is_label: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The teacher's distribution for one view, as the store has it."""

    bars: tuple[Bar, ...]
    topk_mass: float
    tail_mass: float
    entropy: float
    """In nats, with a uniform tail."""
    label_probability: float | None
    """None where the label is not one of the teacher's classes."""
    note: str
    """What the bars do not show."""


def prediction(
    view: logitstore.Rows, spec: logitstore.StoreSpec, classes: ClassNames, *, label: int, max_bars: int
) -> Prediction | None:
    """The prediction for one view; None where the store holds no target for it.

    **Arguments:** `view`: one row; `label`: the teacher's class that the row's label stands for, -1: none; `max_bars`:
    top-k classes with a bar of their own; the label always has one.
    """
    stored = np.isfinite(view.logprobs[0])
    if not stored.any():
        return None
    indices = view.indices[0][stored].tolist()
    probabilities = np.exp(view.logprobs[0][stored].astype(np.float64)).tolist()
    drawn = view.drawn[0][stored].tolist() if view.drawn is not None else [False] * len(indices)
    all_bars = [
        Bar(
            name=class_name(classes, index), probability=probability, kind="drawn" if was_drawn else "topk",
            note=_drawn_note(spec, probability) if was_drawn else "", is_label=index == label,
        )
        for index, probability, was_drawn in zip(indices, probabilities, drawn, strict=True)
    ]  # fmt: skip
    bars = [bar for place, bar in enumerate(all_bars) if place < max_bars or bar.is_label]
    if left := len(all_bars) - len(bars):
        mass = sum(probabilities) - sum(bar.probability for bar in bars)
        bars.append(Bar(name=f"{left} more of the top-k", probability=mass, kind="others"))
    tail = float(np.exp(view.tail[0]))
    if outside := spec.num_classes - len(indices):
        bars.append(Bar(name=f"{outside:,} in the tail", probability=tail, kind="tail"))
    figures = quantities(view)
    return Prediction(
        bars=tuple(bars),
        topk_mass=float(figures["kept_mass"][0]),
        tail_mass=tail,
        entropy=float(figures["entropy"][0]),
        label_probability=float(probability_of(view, np.array([label]))[0]) if label >= 0 else None,
        note=""
        if label < 0 or label in indices
        else f"The label, {class_name(classes, label)}, is not among the top-k.",
    )


def _drawn_note(spec: logitstore.StoreSpec, probability: float) -> str:
    """How often a class was drawn, where the number of draws is known."""
    return f"drawn {round(probability * spec.draws)} x" if spec.draws else "drawn"
