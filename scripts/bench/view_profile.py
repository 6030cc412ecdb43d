"""Where a view's time goes, and each operation beside Pillow's: the further tables of `bench_data.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

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

Rows = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, head, rows."""

REPEATS = 9
FILL = (124, 116, 104)
GREY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
STRENGTHS = (2.0, 5.0, 9.0, 10.0)

TOLERANCE = {"Color": "1", "GaussianBlur": "24"} | dict.fromkeys(("TranslateX", "TranslateY"), "1")
TOLERANCE |= {"ShearX": "6", "ShearY": "6", "Rotate": "6, 0.02 % of pixels more"}
"""Grey levels that the tests allow; 0 for all others."""


def least_ms(work: Callable[[int], object], *, count: int) -> float:
    """Least CPU time of a call, in milliseconds, over repeats of `count` calls."""
    found = []
    for _ in range(REPEATS):
        start = time.thread_time()
        for index in range(count):
            work(index)
        found.append((time.thread_time() - start) * 1000 / count)
    return min(found)


def profile_rows(files: Sequence[bytes]) -> Rows:
    """Mean time of each stage over the views of the default policy, each stage measured alone."""
    spec, count = views_spec(), len(files) * 4
    data = [files[index % len(files)] for index in range(count)]
    views = [draw(spec, index, image_size(each)) for index, each in enumerate(data)]
    pictures = [decode(each) for each in files]
    resized = [_resized(pictures[index % len(files)], view) for index, view in enumerate(views)]

    stages: dict[str, Callable[[int], object]] = {
        "header (size)": lambda index: image_size(data[index]),
        "draw": lambda index: draw(spec, index, views[index].source),
        "decode": lambda index: decode(data[index], rows=views[index].crop.top + views[index].crop.height),
        "crop and resize": lambda index: _resized(pictures[index % len(files)], views[index]),
        "flip": lambda index: cv2.flip(resized[index], 1) if views[index].flip else None,
        "erase": lambda index: erase(resized[index], views[index].erase),
    }
    times = {name: least_ms(work, count=count) for name, work in stages.items()}
    for name in sorted({operation.name for view in views for operation in view.operations}):
        of = [[each for each in view.operations if each.name == name] for view in views]
        times[f"operation {name}"] = least_ms(lambda index, of=of: _apply(resized[index], of[index]), count=count)
    total = sum(times.values())
    beside: dict[str, Callable[[int], object]] = {
        "beside: decode whole": lambda index: decode(data[index]),
        "beside: decode whole, grey": lambda index: cv2.imdecode(np.frombuffer(data[index], np.uint8), GREY),
        "beside: decode at 1/8": lambda index: decode(data[index], factor=8),
    }
    others = [(name, f"{least_ms(work, count=count):.4f}", "") for name, work in beside.items()]
    rows = [(name, f"{ms:.4f}", f"{ms / total:.1%}") for name, ms in times.items()]
    return "A view by stage", ("stage", "ms a view", "share"), [*rows, ("sum", f"{total:.4f}", ""), *others]


def _resized(picture: np.ndarray, view: View) -> np.ndarray:
    crop = view.crop
    window = picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    return resize(window, size=SIZE, interpolation=view.interpolation)


def _apply(pixels: np.ndarray, operations: list[Operation]) -> None:
    for operation in operations:
        apply(pixels, operation)


def operation_rows(files: Sequence[bytes]) -> Rows:
    """Each operation, bilinear where it moves pixels: greatest and mean difference to Pillow's, and times."""
    squares = [cv2.resize(decode(data), (SIZE, SIZE), interpolation=cv2.INTER_AREA) for data in files[:16]]
    names = {operation: name for name, (operation, _) in INCREASING.items()}
    rows = []
    for operation in OPERATIONS:
        amounts = _amounts(names.get(operation, operation))
        cases = [(square, amount) for square in squares for amount in amounts]

        def mine(index: int, operation: str = operation, cases: list = cases) -> np.ndarray:
            square, amount = cases[index]
            how = "bilinear" if operation in GEOMETRIC else ""
            return apply(square.copy(), Operation(name=operation, amount=amount, interpolation=how, fill=FILL))

        def theirs(index: int, name: str = names.get(operation, operation), cases: list = cases) -> np.ndarray:
            return np.asarray(_by_pillow(Image.fromarray(cases[index][0]), name, cases[index][1]))

        differences = [np.abs(mine(index).astype(int) - theirs(index)) for index in range(len(cases))]
        most, mean = max(int(each.max()) for each in differences), np.mean([each.mean() for each in differences])
        fast, slow = least_ms(mine, count=len(cases)), least_ms(theirs, count=len(cases))
        allowed = TOLERANCE.get(operation, "0")
        rows.append((operation, allowed, str(most), f"{mean:.4f}", f"{fast:.3f}", f"{slow:.3f}", f"{slow / fast:.1f}"))
    head = ("operation", "allowed", "most", "mean", "ms", "Pillow ms", "ratio")
    return f"Operations at {SIZE} x {SIZE}, differences to Pillow in grey levels", head, rows


def _amounts(name: str) -> list[float]:
    if name not in INCREASING:
        return [radius / SIZE for radius in (0.5, 1.0, 2.0)]  # the blur
    amount_of = INCREASING[name][1]
    return sorted({amount_of(strength, minus) for strength in STRENGTHS for minus in (False, True)})


def _by_pillow(picture: Image.Image, name: str, amount: float) -> Image.Image:
    if name == "GaussianBlur":
        return picture.filter(ImageFilter.GaussianBlur(amount * SIZE))
    if name == "PosterizeIncreasing" and amount == 0:  # Pillow 13 refuses to keep no bits
        return Image.new("RGB", picture.size)
    whole = name in ("PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd")
    arguments = () if reference.LEVEL_TO_ARG[name] is None else (int(amount) if whole else amount,)
    more = {"fillcolor": FILL, "resample": Image.Resampling.BILINEAR}
    return reference.NAME_TO_OP[name](picture, *arguments, **more)
