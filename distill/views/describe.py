"""A view in words, for people."""

from distill.views.ops import rule_of
from distill.views.view import RELATIVE, Erase, Operation, View


def describe(view: View) -> list[str]:
    """The drawn parameters, one line each, in the order in which `render` executes them."""
    height, width = view.source
    crop = view.crop
    share = crop.height * crop.width / (height * width)
    lines = [
        f"picture: {width} x {height} pixels (width x height)",
        f"crop: {crop.width} x {crop.height} at left {crop.left}, top {crop.top} ({share:.1%} of the area)",
        f"resize: {view.interpolation}, antialiased",
        f"flip: {'left to right' if view.flip else 'no'}",
    ]
    lines += [_operation(operation) for operation in view.operations]
    lines += [_erase(each) for each in view.erase]
    return lines


def _operation(operation: Operation) -> str:
    said = f"{operation.name}: {rule_of(operation).said(operation.amount)}"
    if operation.interpolation:
        said += f" ({operation.interpolation}, filled with rgb {operation.fill})"
    return said


def _erase(each: Erase) -> str:
    box = each.box
    percent = [f"{number / RELATIVE:.1%}" for number in (box.width, box.height, box.left, box.top)]
    where = "{} x {} of the output at left {}, top {}".format(*percent)
    if each.mode == "pixel":
        return f"erase: {where}, noise around rgb {each.mean} with deviation {each.std}, key {each.key:#018x}"
    return f"erase: {where}, plain rgb {each.mean}"
