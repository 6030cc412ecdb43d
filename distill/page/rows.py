"""One row of a store as the page shows it: the original, its views in some epochs drawn again, how each was drawn, and
what the teacher said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

import logitstore
from distill.config.gallery import ShowConfig
from distill.data.shards import ShardReader
from distill.errors import DistillError
from distill.page import images
from distill.page.classes import Classes
from distill.page.disagreement import disagreement
from distill.page.images import Picture
from distill.page.predictions import Answer, answer
from distill.page.replayed import ReplayAvailability
from distill.page.scan import spread
from distill.views import Box, View, decode, describe, describe_mix, draw, image_size
from distill.views.view import RELATIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One view of a row."""

    epoch: int
    number: int
    """Place among the row's views, from 1: its colour."""
    fault: str = ""
    """Why there is no answer."""
    seed: int = 0
    answer: Answer | None = None
    picture: Picture | None = None
    picture_fault: str = ""
    crop: Box | None = None
    """In pixels of the original."""
    brief: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """The drawn parameters, in short and in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row."""

    row: int
    kinds: tuple[str, ...]
    key: str
    label: str
    views: tuple[Shown, ...]
    original: Picture | None = None
    original_fault: str = ""
    source: tuple[int, int] = (0, 0)
    """(height, width) of the original in pixels."""
    label_probability: float | None = None
    entropy: float | None = None
    """Means over the views shown."""
    disagreement: float | None = None
    """Between them, in nats."""

    @property
    def num_bytes(self) -> int:
        """What its pictures take in the page."""
        shown = (self.original, *(view.picture for view in self.views))
        return sum(len(picture.address) for picture in shown if picture)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What exhibits are made from."""

    store: logitstore.Store
    done: npt.NDArray[np.bool_]
    """(E, B) blocks that are there."""
    sight: ReplayAvailability
    classes: Classes
    config: ShowConfig


def collect(
    source: Source, chosen: Mapping[int, tuple[str, ...]], *, most_bytes: float, progress: Callable[[int], None]
) -> list[Example]:
    """Rows in their order until their pictures alone fill the page.

    **Arguments:** `chosen`: row -> kinds; `progress` is told of rows as they are made.
    """
    made: list[Example] = []
    used = 0
    for row, kinds in chosen.items():
        each = make(source, row, kinds=kinds)
        used += each.num_bytes
        if used > most_bytes:
            break
        made.append(each)
        progress(1)
    return made


def places(shown: Sequence[Example], spec: logitstore.StoreSpec) -> list[tuple[int, int]]:
    """The (epoch, block) pairs that some exhibits' views come from."""
    return list(dict.fromkeys((view.epoch, each.row // spec.rows_per_block) for each in shown for view in each.views))


def make(source: Source, row: int, *, kinds: tuple[str, ...]) -> Example:
    """Reads and renders one row; what is missing or damaged is said in its place."""
    store, classes = source.store, source.classes
    there = np.flatnonzero(source.done[:, row // store.spec.rows_per_block])
    label, key = _sample(source, row)
    data, original, fault = _original(source, row)
    answers: list[logitstore.Rows] = []
    views = []
    for number, epoch in enumerate(spread(there, source.config.epochs).tolist(), 1):
        view, rows = _shown(source, row, epoch, number=number, label=label, data=data)
        views.append(view)
        if rows is not None and view.answer:
            answers.append(rows)
    known = [view.answer for view in views if view.answer]
    by_label = [each.label_probability for each in known if each.label_probability is not None]
    return Example(
        row=row, kinds=kinds, key=key, label=classes.label_name(label) if label >= 0 else "", views=tuple(views),
        original=original, original_fault=fault, source=image_size(data) if data else (0, 0),
        label_probability=sum(by_label) / len(by_label) if by_label else None,
        entropy=sum(each.entropy for each in known) / len(known) if known else None,
        disagreement=float(disagreement(answers)[0]) if len(answers) > 1 else None,
    )  # fmt: skip


def _original(source: Source, row: int) -> tuple[bytes, Picture | None, str]:
    """A row's bytes and picture, or why there are none; without a data set, nothing."""
    if source.sight.catalog is None:
        return b"", None, ""
    try:
        with ShardReader(source.sight.catalog) as shards:
            data = shards.read(row)
        pixels = decode(data)
    except DistillError as error:
        return b"", None, str(error)
    says = f"The original picture of row {row}, {pixels.shape[1]} by {pixels.shape[0]} pixels"
    return data, images.reduced(pixels, longest=source.config.original, says=says), ""


def _sample(source: Source, row: int) -> tuple[int, str]:
    """Label (-1: unknown) and key of a row; the key's hash where there is no catalog."""
    try:
        label, key_hash = int(source.store.labels(row)[0]), f"{int(source.store.keys(row)[0]):016x}"
    except logitstore.DamagedBlock:
        label, key_hash = -1, "unknown"
    return label, source.sight.catalog.key(row) if source.sight.catalog else f"key hash {key_hash}"


def _shown(
    source: Source, row: int, epoch: int, *, number: int, label: int, data: bytes
) -> tuple[Shown, logitstore.Rows | None]:
    """One view, and what the store holds of it. **Arguments:** `data`: the original's bytes, empty: there are none."""
    store, classes, sight = source.store, source.classes, source.sight
    try:
        rows = store.read(epoch=epoch, rows=row)
    except (logitstore.DamagedBlock, logitstore.MissingBlocks) as error:
        return Shown(epoch=epoch, number=number, fault=f"This block cannot be read: {error}"), None
    own_class = int(classes.class_of(np.array([label], np.int32))[0])
    said = answer(rows, store.spec, classes, label=own_class, most=source.config.classes)
    shown = Shown(
        epoch=epoch, number=number, seed=int(rows.seeds[0]), answer=said,
        fault="" if said else "Nothing is kept of this view: its picture could not be read in the teacher pass.",
    )  # fmt: skip
    if sight.prover is None or not data:
        return shown, rows
    try:
        return _with_picture(source, shown, row, data), rows
    except (DistillError, logitstore.StoreError) as error:
        return replace(shown, picture_fault=f"The view cannot be drawn: {error}"), rows


def _with_picture(source: Source, shown: Shown, row: int, data: bytes) -> Shown:
    """Adds the rendered view and how it was drawn."""
    sight = source.sight
    assert sight.prover and sight.catalog
    view = draw(sight.prover.spec, shown.seed, image_size(data))
    pixels, mixture = sight.prover.image(shown.epoch, row)
    brief, words = list(in_short(view)), describe(view)
    if mixture and mixture.mixing:
        brief.append(f"{mixture.mixing.kind} with row {mixture.partner}")
        partner = f"row {mixture.partner} ({sight.catalog.key(mixture.partner)})"
        words.append(f"mixed with {partner}: {describe_mix(mixture.mixing, size=sight.size)}")
    elif mixture:
        words.append("mix: none")
    make_picture = images.lossless if source.config.pictures == "exact" else images.jpeg
    says = f"Row {row} as drawn again for epoch {shown.epoch}: {', '.join(brief)}"
    picture = make_picture(pixels, says=says)
    return replace(shown, picture=picture, crop=view.crop, brief=tuple(brief), words=tuple(words))


def in_short(view: View) -> Sequence[str]:
    """A view's drawn parameters in a few words."""
    height, width = view.source
    share = view.crop.height * view.crop.width / (height * width)
    said = ["whole picture" if share == 1 else f"crop {100 * share:.0f} %"]
    if view.flip:
        said.append("flipped")
    said += [f"{each.name} {each.amount:.3g}" if each.amount else each.name for each in view.operations]
    erased = sum(each.box.height * each.box.width for each in view.erase) / RELATIVE**2
    return [*said, f"erased {100 * erased:.0f} %"] if erased else said
