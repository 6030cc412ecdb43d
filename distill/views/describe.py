"""A view as text."""

from distill.views.ops import rule_of
from distill.views.view import RELATIVE, Erase, Operation, View


def describe(view: View) -> list[str]:
    """The parameters of a view, one line each, in the order in which `render` executes them."""
    height, width = view.source
    crop = view.crop
    fraction = crop.height * crop.width / (height * width)
    lines = [
        f"image: {width} x {height} pixels (width x height)",
        f"crop: {crop.width} x {crop.height} at left {crop.left}, top {crop.top} ({fraction:.1%} of the area)",
        f"resize: {view.interpolation}, antialiased",
        f"flip: {'left to right' if view.flip else 'no'}",
    ]
    lines += [_operation(operation) for operation in view.operations]
    lines += [_erase(erase) for erase in view.erase]
    return lines


def _operation(operation: Operation) -> str:
    text = f"{operation.name}: {rule_of(operation).describe(operation.amount)}"
    if operation.interpolation:
        text += f" ({operation.interpolation}, filled with rgb {operation.fill})"
    return text


def _erase(erase: Erase) -> str:
    box = erase.box
    percent = [f"{number / RELATIVE:.1%}" for number in (box.width, box.height, box.left, box.top)]
    where = "{} x {} of the output at left {}, top {}".format(*percent)
    if erase.mode == "pixel":
        return f"erase: {where}, normal noise of mean rgb {erase.mean} and std {erase.std}, key {erase.key:#018x}"
    return f"erase: {where}, constant rgb {erase.mean}"
