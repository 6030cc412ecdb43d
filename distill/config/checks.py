"""Checks of single values, for every `__post_init__` here."""

from __future__ import annotations

from distill.errors import UsageError


def choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name}={value}: choose one of {', '.join(choices)}")


def at_least(least: float, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= least:
            raise UsageError(f"{name.replace('__', '.')}={value}: must be at least {least:g}")


def given(name: str, value: str | None, what: str) -> None:
    if not value:
        raise UsageError(f"{name} is not set: give {what}, for example {name}=PATH")
