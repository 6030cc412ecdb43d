"""Where a view's time goes, and each operation beside Pillow's: tables of `bench_data.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import timm.data.auto_augment as reference
from PIL import Image, ImageFilter

from distill.views import Operation, decode, draw, image_size
from distill.views.erase import erase
from distill.views.ops import OPERATIONS, apply
from distill.views.randaugment import INCREASING
from distill.views.render import resize
from distill.views.view import GEOMETRIC, View
from scripts.bench.transforms import SIZE, views_spec

Table = tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]
"""Title, head, rows."""

REPEATS = 9
FILL = (124, 116, 104)
GREY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
MAGNITUDES = (2.0, 5.0, 9.0, 10.0)

TOLERANCE = {"Color": "1", "GaussianBlur": "24"} | dict.fromkeys(("TranslateX", "TranslateY"), "1")
TOLERANCE |= {"ShearX": "6", "ShearY": "6", "Rotate": "6, 0.02 % of pixels more"}
"""Grey levels that the tests allow; 0 for all others."""


def min_ms(work: Callable[[int], object], *, count: int) -> float:
    """CPU milliseconds of a call: the smallest mean of several repeats of `count` calls."""
    means = []
    for _ in range(REPEATS):
        start = time.thread_time()
        for index in range(count):
            work(index)
        means.append((time.thread_time() - start) * 1000 / count)
    return min(means)


def profile_rows(files: Sequence[bytes]) -> Table:
    """Mean time of each stage over the views of the default policy, each stage measured alone."""
    spec, count = views_spec(), len(files) * 4
    data = [files[index % len(files)] for index in range(count)]
    views = [draw(spec, index, image_size(jpeg)) for index, jpeg in enumerate(data)]
    decoded = [decode(jpeg) for jpeg in files]
    resized = [_resized(decoded[index % len(files)], view) for index, view in enumerate(views)]

    stages: dict[str, Callable[[int], object]] = {
        "header (size)": lambda index: image_size(data[index]),
        "draw": lambda index: draw(spec, index, views[index].source),
        "decode": lambda index: decode(data[index], rows=views[index].crop.top + views[index].crop.height),
        "crop and resize": lambda index: _resized(decoded[index % len(files)], views[index]),
        "flip": lambda index: cv2.flip(resized[index], 1) if views[index].flip else None,
        "erase": lambda index: erase(resized[index], views[index].erase),
    }
    times = {name: min_ms(work, count=count) for name, work in stages.items()}
    for name in sorted({operation.name for view in views for operation in view.operations}):
        operations = [[each for each in view.operations if each.name == name] for view in views]
        times[f"operation {name}"] = min_ms(partial(_apply, resized, operations), count=count)
    total = sum(times.values())
    for_comparison: dict[str, Callable[[int], object]] = {
        "for comparison: decode whole": lambda index: decode(data[index]),
        "for comparison: decode whole, grey": lambda index: cv2.imdecode(np.frombuffer(data[index], np.uint8), GREY),
        "for comparison: decode at 1/8": lambda index: decode(data[index], factor=8),
    }
    others = [(name, f"{min_ms(work, count=count):.4f}", "") for name, work in for_comparison.items()]
    rows = [(name, f"{ms:.4f}", f"{ms / total:.1%}") for name, ms in times.items()]
    return "A view by stage", ("stage", "ms per view", "fraction"), [*rows, ("sum", f"{total:.4f}", ""), *others]


def _resized(image: np.ndarray, view: View) -> np.ndarray:
    crop = view.crop
    window = image[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    return resize(window, size=SIZE, interpolation=view.interpolation)


def _apply(pixels: Sequence[np.ndarray], operations: Sequence[Sequence[Operation]], index: int) -> None:
    for operation in operations[index]:
        apply(pixels[index], operation)


def operation_rows(files: Sequence[bytes]) -> Table:
    """Each operation, geometric ones bilinear: largest and mean difference to Pillow's, and times."""
    squares = [cv2.resize(decode(data), (SIZE, SIZE), interpolation=cv2.INTER_AREA) for data in files[:16]]
    names = {operation: name for name, (operation, _) in INCREASING.items()}
    rows = []
    for operation in OPERATIONS:
        amounts = _amounts(names.get(operation, operation))
        cases = [(square, amount) for square in squares for amount in amounts]

        def ours(index: int, operation: str = operation, cases: list = cases) -> np.ndarray:
            square, amount = cases[index]
            interpolation = "bilinear" if operation in GEOMETRIC else ""
            one = Operation(name=operation, amount=amount, interpolation=interpolation, fill=FILL)
            return apply(square.copy(), one)

        def pillows(index: int, name: str = names.get(operation, operation), cases: list = cases) -> np.ndarray:
            return np.asarray(_by_pillow(Image.fromarray(cases[index][0]), name, cases[index][1]))

        differences = [np.abs(ours(index).astype(int) - pillows(index)) for index in range(len(cases))]
        largest, mean = max(int(each.max()) for each in differences), np.mean([each.mean() for each in differences])
        fast, slow = min_ms(ours, count=len(cases)), min_ms(pillows, count=len(cases))
        allowed = TOLERANCE.get(operation, "0")
        rows.append(
            (operation, allowed, str(largest), f"{mean:.4f}", f"{fast:.3f}", f"{slow:.3f}", f"{slow / fast:.1f}")
        )
    head = ("operation", "allowed", "largest", "mean", "ms", "Pillow ms", "ratio")
    return f"Operations at {SIZE} x {SIZE}, differences to Pillow in grey levels", head, rows


def _amounts(name: str) -> list[float]:
    if name not in INCREASING:
        return [radius / SIZE for radius in (0.5, 1.0, 2.0)]  # the blur
    amount_of = INCREASING[name][1]
    return sorted({amount_of(magnitude, minus) for magnitude in MAGNITUDES for minus in (False, True)})


def _by_pillow(image: Image.Image, name: str, amount: float) -> Image.Image:
    if name == "GaussianBlur":
        return image.filter(ImageFilter.GaussianBlur(amount * SIZE))
    if name == "PosterizeIncreasing" and amount == 0:  # Pillow 13 refuses to keep no bits
        return Image.new("RGB", image.size)
    integer = name in ("PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd")
    arguments = () if reference.LEVEL_TO_ARG[name] is None else (int(amount) if integer else amount,)
    settings: dict[str, Any] = {"fillcolor": FILL, "resample": Image.Resampling.BILINEAR}
    operation: Any = reference.NAME_TO_OP[name]
    return operation(image, *arguments, **settings)
