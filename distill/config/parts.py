"""Groups of settings as fields of a program's dataclass, and which of a group's keys the program takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, TypeVar

Group = TypeVar("Group")

TAKEN = "taken"
"""Under this name a field's metadata holds the keys that the program takes; None stands for all of the group."""
REMOTE = "cache cache_bytes retries timeout"
"""Keys of `DataConfig` for data sets behind a URL."""


def part(group: Callable[..., Group], keys: str | None = None, **defaults: Any) -> Group:
    """A field that holds a group of settings.

    **Arguments:** `keys`: those that the program takes, separated by spaces; None: all. `command.load` refuses the
    others, so no setting is accepted that has no effect. `defaults`: where the program's are not those of the group.
    """
    taken = None if keys is None else tuple(keys.split())
    made: Group = field(default_factory=lambda: group(**defaults), metadata={TAKEN: taken})
    return made
