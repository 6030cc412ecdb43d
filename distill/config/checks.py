"""Checks of single values, for the `__post_init__` of every dataclass here."""

from __future__ import annotations

from distill.errors import UsageError


def choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """**Raises:** `UsageError` unless the value is one of the choices."""
    if value not in choices:
        raise UsageError(f"{name}={value}: choose one of {', '.join(choices)}")


def at_least(least: float, **values: float | None) -> None:
    """Checks values by their setting's name, with two underscores for its dot; None passes.

    **Raises:** `UsageError` for a smaller value, or one that is not a number.
    """
    for name, value in values.items():
        if value is not None and not value >= least:
            raise UsageError(f"{name.replace('__', '.')}={value}: must be at least {least:g}")


def given(name: str, value: str | None, meaning: str) -> None:
    """**Raises:** `UsageError` for a path that must be set and is not."""
    if not value:
        raise UsageError(f"{name} is not set: give {meaning}, for example {name}=PATH")
