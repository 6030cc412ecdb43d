"""Settings that were renamed or removed since earlier versions: how old runs and old commands are read.

A run's folder keeps its configuration as it was written. `up_to_date` brings one into today's form, so that the run can
be evaluated, exported and resumed.
"""

from __future__ import annotations

import copy
import functools
import os
import sys
from typing import Any

REMOVED = {
    "compute.compile_backend": "compute.compile=true takes torch's default, inductor",
    "data.digests": "scripts/prove/replay.py compares the pixels of two machines",
    "store.max_mass": "it saved no bytes (docs/fidelity.md); store.topk sets how many classes of a view are stored",
}
"""Key -> what to do instead. None of them changed what a student run computes."""
REMOVED_VALUES = {
    ("loss.tail", "dropped"): "students trained with it were the worst (docs/results.md); scripts/studies/fidelity.py "
    "has its formula"
}
_RENAMED = {("train.batchnorm", "own"): "local"}


def removed(key: str, value: object = None) -> str | None:
    """Why an earlier version's setting, or a value of one, is refused; None for any other."""
    if key in REMOVED:
        return f"{key} was removed: {REMOVED[key]}"
    reason = REMOVED_VALUES.get((key, str(value)))
    return f"{key}={value} was removed: {reason}" if reason else None


def renamed(key: str, value: str) -> str:
    """Today's name of a setting's value. An old name is accepted; a line on stderr says once what it is now."""
    if (key, value) not in _RENAMED:
        return value
    _say_once(f"note: {key}={value} is now called {key}={_RENAMED[key, value]}; the old name is still accepted")
    return _RENAMED[key, value]


@functools.cache
def _say_once(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(text, file=sys.stderr, flush=True)


def up_to_date(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved configuration without removed keys and with today's names; removed values stay."""
    settings = copy.deepcopy(saved)
    for key in REMOVED:
        group, name = key.split(".")
        settings.get(group, {}).pop(name, None)
    for (key, old), new in _RENAMED.items():
        group, name = key.split(".")
        if settings.get(group, {}).get(name) == old:
            settings[group][name] = new
    return settings


def without_removed_values(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without removed values, so that their defaults hold."""
    settings = copy.deepcopy(settings)
    for key, value in REMOVED_VALUES:
        group, name = key.split(".")
        if settings.get(group, {}).get(name) == value:
            del settings[group][name]
    return settings
