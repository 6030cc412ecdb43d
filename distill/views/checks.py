"""Checks of single values of a spec. Each raises a `UsageError` that names the key and the value."""

from distill.errors import DistillError, UsageError

VERSION = 1
"""Of the specs; raised when the meaning of a key, the random slots or the pixels of an operation change."""


def check_version(version: object, *, of: str) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UsageError(f"{of}: version must be a positive integer, got {version!r}")
    if version > VERSION:
        raise DistillError(
            f"{of}: version {version} is newer than {VERSION}, the newest that this program reads; update"
        )


def choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"view spec: {name} must be one of {', '.join(choices)}, got {value!r}")


def check_range(name: str, pair: tuple[float, ...], *, low: float, high: float) -> None:
    """For a pair low <= pair[0] <= pair[1] <= high; a single number is passed twice."""
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
        raise UsageError(f"view spec: {name} must lie in {low:g} .. {high:g}, smaller first, got {pair}")


def as_tuple(name: str, values: object) -> tuple[object, ...]:
    if not isinstance(values, list | tuple):
        raise UsageError(f"view spec: {name} needs a list of numbers, got {values!r}")
    return tuple(values)


def as_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"view spec: {name} needs numbers, got {value!r}")
    return float(value)


def as_integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"view spec: {name} needs integers, got {value!r}")
    return value
