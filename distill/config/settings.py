"""The settings of a program, read from its dataclasses: key, default and meaning of each.

The meaning of a field is the string under it in the source, so the code, `--help` and docs/settings.md say the same.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from distill.config.parts import TAKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One key of a program's configuration."""

    key: str
    """With its group in front: `optim.lr`."""
    default: Any
    meaning: str
    taken: bool = True
    """False: the key is in the program's configuration because its group has it, and the program does not use it."""
    open: bool = False
    """A dictionary, whose keys are not listed."""
    text: bool = False
    """A string: a name, a path, a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Settings that stand together under one name; the program's own, without a group, have the name ""."""

    name: str
    schema: type
    meaning: str
    """Of the group, whichever program has it."""
    note: str
    """What the program says of it; may be empty."""
    settings: tuple[Setting, ...]
    optional: bool = False
    """There only where a choice is made (`teacher=CHOICE`)."""


def list_groups(schema: type, values: Mapping[str, Any] | None = None) -> list[Group]:
    """The settings of a program in the order of its dataclass, those without a group last.

    **Arguments:** `values`: the composed configuration as a nested dictionary, whose values are shown as the defaults;
    None: those of the dataclasses.
    """
    values = values or {}
    types_by_name = get_type_hints(schema)
    groups, ungrouped = [], []
    for field in fields(schema):
        meaning = meanings(schema).get(field.name, "")
        inner = _without_none(types_by_name[field.name])
        if not is_dataclass(inner):
            default = values.get(field.name, default_of(field))
            ungrouped.append(
                Setting(
                    key=field.name, default=default, meaning=meaning, open=_is_dict(inner), text=_is_text(inner)
                )
            )  # fmt: skip
            continue
        assert isinstance(inner, type)
        made = default_of(field)
        taken = field.metadata.get(TAKEN)
        inner_types = get_type_hints(inner)
        settings = tuple(
            Setting(
                key=f"{field.name}.{each.name}",
                default=(values.get(field.name) or {}).get(
                    each.name, default_of(each) if made is None else getattr(made, each.name)
                ),
                meaning=meanings(inner).get(each.name, ""),
                taken=taken is None or each.name in taken,
                open=_is_dict(_without_none(inner_types[each.name])),
                text=_is_text(_without_none(inner_types[each.name])),
            )
            for each in fields(inner)
        )
        groups.append(
            Group(
                name=field.name, schema=inner, meaning=meanings(inner)[""], note=meaning, settings=settings,
                optional=made is None,
            )
        )  # fmt: skip
    own = Group(name="", schema=schema, meaning="", note="", settings=tuple(ungrouped))
    return [*groups, *([own] if ungrouped else [])]


@functools.cache
def meanings(schema: type) -> dict[str, str]:
    """Field of a dataclass -> the string under it; under "" that of the class itself. Line breaks are blanks."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(node, ast.ClassDef)
    found = {"": " ".join((ast.get_docstring(node) or "").split())}
    for statement, below in zip(node.body, node.body[1:], strict=False):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def default_of(field: Field[Any]) -> Any:
    """A field's default; every setting has one."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _without_none(hint: Any) -> Any:
    """`X` of `X | None`."""
    if isinstance(hint, types.UnionType):
        (hint,) = [each for each in get_args(hint) if each is not type(None)]
    return hint


def _is_text(hint: Any) -> bool:
    return hint is str


def _is_dict(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is dict
