"""Augmentation policies, by kind and by name.

A policy decides how many layers of operations a view has and, from a layer's random words, the operation and its
amount. To add one: a frozen dataclass with these members, one row in `POLICIES`, one YAML file in `conf/view`.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol

from distill.errors import UsageError
from distill.views.randaugment import RandAugment
from distill.views.three_augment import ThreeAugment
from distill.views.trivial_augment import TrivialAugment


class Policy(Protocol):
    """What `draw` needs of a policy."""

    @property
    def kind(self) -> str:
        """Its key in `POLICIES`."""

    @property
    def layers(self) -> int:
        """Maximum number of operations per view, 1 to 8."""

    def choose(self, words: list[int]) -> tuple[str, float] | None:
        """The operation (a key of `ops.OPERATIONS`) and its amount from the layer's 8 words; None: no operation."""


POLICIES: dict[str, type] = {
    "randaugment": RandAugment,
    "trivialaugment-wide": TrivialAugment,
    "three-augment": ThreeAugment,
}


def policy_of(value: object) -> Policy | None:
    """The policy of a spec's `policy`: a name, the JSON of a policy, a policy, or None. **Raises:** `UsageError`."""
    if value is None or value == "none":
        return None
    if isinstance(value, str):
        return RandAugment.parse(value) if value.startswith("rand-") else _by_kind(value, {})
    if isinstance(value, Mapping):
        if "kind" not in value:
            raise UsageError(f"view policy: the key 'kind' is missing; it is one of {', '.join(POLICIES)}")
        return _by_kind(value["kind"], {key: value[key] for key in value if key != "kind"})
    if type(value) in POLICIES.values() and POLICIES.get(value.kind) is type(value):  # type: ignore[attr-defined]
        return value  # type: ignore[return-value]
    raise UsageError(f"view spec: policy must be a name or its parameters with their kind, got {value!r}")


def _by_kind(kind: object, parameters: dict[str, Any]) -> Policy:
    if not isinstance(kind, str) or kind not in POLICIES:
        raise UsageError(
            f"view policy: unknown kind {kind!r}; choose none, {', '.join(POLICIES)} or a name like "
            "'rand-m9-mstd0.5-inc1'"
        )
    names = [field.name for field in fields(POLICIES[kind]) if field.name != "kind"]
    unknown = sorted(str(key) for key in parameters if key not in names)
    if unknown:
        raise UsageError(
            f"view policy {kind}: unknown keys {', '.join(unknown)}; the keys are {', '.join(names) or 'none'}"
        )
    policy: Policy = POLICIES[kind](**parameters)
    return policy
