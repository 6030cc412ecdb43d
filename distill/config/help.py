"""The text of a program's `--help`: what it does, its options, its choices, and every setting it takes."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.config.settings import Group, list_groups

_WIDTH = 112
_DEFAULT_WIDTH = 14
_OPTIONS = """\
options:
  KEY=VALUE             set a configuration key; GROUP=CHOICE picks a file of conf/GROUP/. Paths and other text are
                        taken as they stand, but for ~/ in front
  --config-dir DIR      look for configuration files in DIR too (may be repeated)
  --print-config        print the configuration that would be used, and stop
  --dry-run             build everything, run a few steps, print memory and hours; writes nothing
  --help                this text"""


def help_text(
    about: str | None, schema: type, *, choices: Mapping[str, tuple[str | None, list[Path]]], values: Mapping[str, Any],
    dry_run: bool,
) -> str:  # fmt: skip
    """The whole text.

    **Arguments:** `about`: the program's docstring; `choices`: group -> its default and the files to choose from;
    `values`: the configuration without any argument.
    """
    options = [line for line in _OPTIONS.splitlines() if dry_run or "--dry-run" not in line]
    parts = [(about or "").strip(), "\n".join(options)]
    if choices:
        parts.append("\n".join(["choices:", *(_choice(name, *files) for name, files in choices.items())]))
    parts.append("settings, with their defaults:")
    groups = list_groups(schema, values)
    width = max(len(setting.key) for group in groups for setting in group.settings if setting.taken) + 2
    parts += [_group(group, choices, width) for group in groups]
    return "\n\n".join(parts)


def _choice(name: str, default: str | None, files: list[Path]) -> str:
    names = ", ".join(f"{path.stem} (default)" if path.stem == default else path.stem for path in files)
    return _hanging(f"  {name + '=':<21} ", names)


def _group(group: Group, choices: Mapping[str, Any], width: int) -> str:
    """A group's settings in three columns; `width` is the first one's."""
    lines = [_hanging(f"  {group.name:<{width}}", group.note or group.meaning)] if group.name else []
    for setting in group.settings:
        if setting.taken:
            default = "a choice" if setting.key in choices else show(setting.default)
            short = len(default) <= _DEFAULT_WIDTH
            first = f"  {setting.key:<{width}}{default if short else '':<{_DEFAULT_WIDTH}}  "
            lines.append(_hanging(first, setting.meaning if short else f"{setting.meaning} Default: {default}"))
    return "\n".join(lines)


def _hanging(first: str, text: str) -> str:
    """Text in a column beside `first`."""
    return textwrap.fill(text, width=_WIDTH, initial_indent=first, subsequent_indent=" " * len(first)) or first.rstrip()


def show(value: Any) -> str:
    """A value as it is written on the command line and in YAML."""
    match value:
        case None | bool():
            return json.dumps(value)
        case float():
            return f"{value:g}"
        case list():
            return f"[{', '.join(map(show, value))}]"
        case dict():
            return f"{{{', '.join(f'{name}: {show(each)}' for name, each in value.items())}}}"
        case _:
            return str(value)
