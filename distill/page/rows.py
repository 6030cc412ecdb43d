"""The examples of the page: rows with their original image, their views in some epochs replayed, how each view was
drawn, and the teacher's predictions."""

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
from distill.page.classes import label_name
from distill.page.disagreement import disagreement
from distill.page.images import PageImage
from distill.page.predictions import Prediction, prediction
from distill.page.replayed import ReplayAvailability
from distill.page.scan import evenly_spaced
from distill.views import Box, View, decode, describe, describe_mix, draw, image_size
from distill.views.view import RELATIVE
from logitstore.tools.names import ClassNames


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleView:
    """One view of a row."""

    epoch: int
    number: int
    """Position among the row's views, from 1: its colour."""
    fault: str = ""
    """Why there is no prediction."""
    seed: int = 0
    prediction: Prediction | None = None
    image: PageImage | None = None
    image_fault: str = ""
    """Why there is no image."""
    crop: Box | None = None
    """In pixels of the original."""
    summary: tuple[str, ...] = ()
    """The drawn parameters in short."""
    parameters: tuple[str, ...] = ()
    """The drawn parameters in full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row."""

    row: int
    kinds: tuple[str, ...]
    """Why it is shown, of `row_choice.KINDS`."""
    key: str
    label: str
    views: tuple[ExampleView, ...]
    original: PageImage | None = None
    original_fault: str = ""
    """Why there is no original."""
    original_size: tuple[int, int] = (0, 0)
    """(height, width) of the original in pixels."""
    label_probability: float | None = None
    entropy: float | None = None
    """Means over the views shown."""
    disagreement: float | None = None
    """Between the views shown, in nats."""

    @property
    def num_bytes(self) -> int:
        """Size of its images in the page."""
        shown = (self.original, *(view.image for view in self.views))
        return sum(len(image.url) for image in shown if image)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSource:
    """What examples are made from."""

    store: logitstore.Store
    done: npt.NDArray[np.bool_]
    """(E, B) blocks that are written and sound."""
    replay: ReplayAvailability
    classes: ClassNames
    config: ShowConfig


def make_examples(
    source: ExampleSource, chosen: Mapping[int, tuple[str, ...]], *, max_bytes: float, progress: Callable[[int], None]
) -> list[Example]:
    """Examples of the chosen rows, in their order, until their images alone fill the page.

    **Arguments:** `chosen`: row -> kinds; `progress`: called with the number of rows just made.
    """
    examples: list[Example] = []
    used_bytes = 0
    for row, kinds in chosen.items():
        example = make_example(source, row, kinds=kinds)
        used_bytes += example.num_bytes
        if used_bytes > max_bytes:
            break
        examples.append(example)
        progress(1)
    return examples


def blocks_of(examples: Sequence[Example], spec: logitstore.StoreSpec) -> list[tuple[int, int]]:
    """The (epoch, block) pairs that the views of some examples come from."""
    pairs = ((view.epoch, example.row // spec.rows_per_block) for example in examples for view in example.views)
    return list(dict.fromkeys(pairs))


def make_example(source: ExampleSource, row: int, *, kinds: tuple[str, ...]) -> Example:
    """Reads and renders one row; in place of what is missing or damaged stands a message."""
    store, classes = source.store, source.classes
    row_epochs = np.flatnonzero(source.done[:, row // store.spec.rows_per_block])
    label, key = _label_and_key(source, row)
    data, original, fault = _original(source, row)
    targets: list[logitstore.Rows] = []
    views = []
    for number, epoch in enumerate(evenly_spaced(row_epochs, source.config.epochs).tolist(), 1):
        view, target = _view(source, row, epoch, number=number, label=label, data=data)
        views.append(view)
        if target is not None and view.prediction:
            targets.append(target)
    predictions = [view.prediction for view in views if view.prediction]
    by_label = [each.label_probability for each in predictions if each.label_probability is not None]
    return Example(
        row=row, kinds=kinds, key=key, label=label_name(classes, label) if label >= 0 else "", views=tuple(views),
        original=original, original_fault=fault, original_size=image_size(data) if data else (0, 0),
        label_probability=sum(by_label) / len(by_label) if by_label else None,
        entropy=sum(each.entropy for each in predictions) / len(predictions) if predictions else None,
        disagreement=float(disagreement(targets)[0]) if len(targets) > 1 else None,
    )  # fmt: skip


def _original(source: ExampleSource, row: int) -> tuple[bytes, PageImage | None, str]:
    """A row's encoded bytes and its image, or why there are none; without a data set, nothing."""
    if source.replay.catalog is None:
        return b"", None, ""
    try:
        with ShardReader(source.replay.catalog) as shards:
            data = shards.read(row)
        pixels = decode(data)
    except DistillError as error:
        return b"", None, str(error)
    alt = f"The original image of row {row}, {pixels.shape[1]} by {pixels.shape[0]} pixels"
    return data, images.reduced(pixels, longest=source.config.original, alt=alt), ""


def _label_and_key(source: ExampleSource, row: int) -> tuple[int, str]:
    """Label of a row, -1 where unknown, and its key; the key's hash where there is no catalog."""
    try:
        label, key_hash = int(source.store.labels(row)[0]), f"{int(source.store.keys(row)[0]):016x}"
    except logitstore.DamagedBlock:
        label, key_hash = -1, "unknown"
    return label, source.replay.catalog.key(row) if source.replay.catalog else f"key hash {key_hash}"


def _view(
    source: ExampleSource, row: int, epoch: int, *, number: int, label: int, data: bytes
) -> tuple[ExampleView, logitstore.Rows | None]:
    """One view, and its target as stored. **Arguments:** `data`: the original's encoded bytes, empty if there are
    none."""
    store, classes = source.store, source.classes
    try:
        target = store.read(epoch=epoch, rows=row)
    except (logitstore.DamagedBlock, logitstore.MissingBlocks) as error:
        return ExampleView(epoch=epoch, number=number, fault=f"This block cannot be read: {error}"), None
    label_class = int(classes.classes_of([label])[0])
    predicted = prediction(target, store.spec, classes, label=label_class, max_bars=source.config.classes)
    view = ExampleView(
        epoch=epoch, number=number, seed=int(target.seeds[0]), prediction=predicted,
        fault="" if predicted else "This view has no target: the teacher pass could not read its image.",
    )  # fmt: skip
    if source.replay.verifier is None or not data:
        return view, target
    try:
        return _with_image(source, view, row, data), target
    except (DistillError, logitstore.StoreError) as error:
        return replace(view, image_fault=f"The view cannot be replayed: {error}"), target


def _with_image(source: ExampleSource, example_view: ExampleView, row: int, data: bytes) -> ExampleView:
    """Adds the rendered view and its drawn parameters."""
    catalog, verifier, size = source.replay.catalog, source.replay.verifier, source.replay.size
    assert verifier and catalog
    view = draw(verifier.spec, example_view.seed, image_size(data))
    pixels, mixture = verifier.image(example_view.epoch, row)
    summary, parameters = summarise(view), describe(view)
    if mixture and mixture.mixing:
        summary.append(f"{mixture.mixing.kind} with row {mixture.partner}")
        partner = f"row {mixture.partner} ({catalog.key(mixture.partner)})"
        parameters.append(f"mixed with {partner}: {describe_mix(mixture.mixing, size=size)}")
    elif mixture:
        parameters.append("mix: none")
    encode = images.lossless if source.config.pictures == "exact" else images.jpeg
    image = encode(pixels, alt=f"Row {row} as replayed for epoch {example_view.epoch}: {', '.join(summary)}")
    return replace(example_view, image=image, crop=view.crop, summary=tuple(summary), parameters=tuple(parameters))


def summarise(view: View) -> list[str]:
    """A view's drawn parameters in a few words."""
    height, width = view.source
    area = view.crop.height * view.crop.width / (height * width)
    summary = ["whole image" if area == 1 else f"crop {100 * area:.0f} %"]
    if view.flip:
        summary.append("flipped")
    summary += [f"{each.name} {each.amount:.3g}" if each.amount else each.name for each in view.operations]
    erased = sum(each.box.height * each.box.width for each in view.erase) / RELATIVE**2
    return [*summary, f"erased {100 * erased:.0f} %"] if erased else summary
