"""Durations as people write them on a command line."""

from __future__ import annotations

import re

from distill.errors import UsageError

_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_seconds(name: str, text: str) -> float:
    """Seconds in `hours:minutes:seconds`, `days-hours:minutes:seconds`, or a number with its unit (s, m, h or d).

    **Raises:** `UsageError` for anything else. A bare number is one: YAML reads 11:50:00 without quotes as 42600.
    """
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and re.fullmatch(r"\d+(\.\d+)?", number):
        return float(number) * _UNITS[unit]
    raise UsageError(
        f"{name}={text}: write hours:minutes:seconds (in a YAML file in quotes: '11:50:00'), days in front of it as in "
        "1-11:50:00, or a number with its unit, 90m or 11.5h"
    )


def time_limit_seconds(time_limit: str | None) -> float:
    """The setting `run.time_limit` in seconds; infinity for None. **Raises:** `UsageError` as `parse_seconds`."""
    return float("inf") if time_limit is None else parse_seconds("run.time_limit", time_limit)


def as_clock(seconds: float) -> str:
    """`hours:minutes:seconds`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
