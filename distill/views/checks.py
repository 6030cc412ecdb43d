"""What the values of a spec must be: each check raises a UsageError that names the key and the value."""

from distill.errors import DistillError, UsageError

VERSION = 1
"""Of the specs; raised when the meaning of a key, the random slots or the pixels of an operation change."""


def check_version(version: object, *, of: str) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UsageError(f"{of}: version must be a positive integer, got {version!r}")
    if version > VERSION:
        raise DistillError(f"{of}: version {version} is newer than {VERSION}, the newest known here; update")


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"view spec: {name} must be one of {', '.join(choices)}, got {value!r}")


def within(name: str, pair: tuple[float, ...], *, least: float, most: float) -> None:
    if len(pair) != 2 or not least <= pair[0] <= pair[1] <= most:
        raise UsageError(f"view spec: {name} must lie in {least:g} .. {most:g}, smaller first, got {pair}")


def several(name: str, values: object) -> tuple[object, ...]:
    if not isinstance(values, list | tuple):
        raise UsageError(f"view spec: {name} needs a list of numbers, got {values!r}")
    return tuple(values)


def number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"view spec: {name} needs numbers, got {value!r}")
    return float(value)


def whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"view spec: {name} needs whole numbers, got {value!r}")
    return value
