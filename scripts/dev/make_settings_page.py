"""Makes docs/settings.md: every setting of the programs with its default and meaning.

    python scripts/dev/make_settings_page.py

A test holds the page to the dataclasses in distill/config/, of which it is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import click

from distill.cli import PROGRAMS
from distill.config.command import default_values
from distill.config.help import show
from distill.config.settings import Group, Setting, list_groups

ROOT = Path(__file__).parents[2]
TARGET, CONF = ROOT / "docs" / "settings.md", ROOT / "conf"
INTRODUCTION = """# Settings

Every setting of the programs, with its default and its meaning; the `--help` of a program shows its own. Settings are
given as `KEY=VALUE`; a default holds where neither the command line nor a chosen file of `conf/`
(`student=CHOICE`, `teacher=CHOICE`, `view=CHOICE`, `experiment=CHOICE`) says otherwise. `null` stands for no value.
Text, such as a path, is taken as it stands, whatever characters it has; `~/` in front of it is the home folder.

Made by `scripts/dev/make_settings_page.py` from the dataclasses in `distill/config/`.
"""
WITHOUT_SETTINGS = ("pack",)
"""Programs whose options are flags: their `--help` has them all."""


def make() -> str:
    """The page: a table for each group of settings, with all programs that have it."""
    tables: dict[tuple[str, type], dict[str, Group]] = {}
    for command in PROGRAMS:
        if command in WITHOUT_SETTINGS:
            continue
        program = importlib.import_module(f"distill.{command.replace('-', '_')}").PROGRAM
        for group in list_groups(program.schema, default_values(program.name, program.schema)):
            tables.setdefault((group.name, group.schema), {})[program.name] = group
    # Named groups first, in the order of the programs; then each program's settings without a group.
    ordered = sorted(tables.items(), key=lambda item: not item[0][0])
    parts, names = [INTRODUCTION], dict[type, str]()
    for (name, schema), by_program in ordered:
        same_keys = names.setdefault(schema, name)
        rows = _rows(by_program) if same_keys == name else [f"Keys as those of `{same_keys}`."]
        parts.append("\n".join([*_head(name, by_program), *rows, ""]))
    return "\n".join(parts)


def _head(name: str, by_program: Mapping[str, Group]) -> list[str]:
    """Title and meaning of a group, and what single programs say of it."""
    (first, *_) = by_program.values()
    lines = [f"## {f'`{name}`' if name else 'Without a group'}: {', '.join(by_program)}", ""]
    lines += [first.meaning, ""] if first.meaning else []
    notes = [f"- {program}: {group.note}" for program, group in by_program.items() if group.note]
    return [*lines, *notes, ""] if notes else lines


def _rows(by_program: Mapping[str, Group]) -> list[str]:
    (first, *_) = by_program.values()
    same_setting = [
        {program: group.settings[n] for program, group in by_program.items()} for n in range(len(first.settings))
    ]
    return ["| setting | default | meaning |", "|---|---|---|", *map(_row, same_setting)]


def _row(by_program: Mapping[str, Setting]) -> str:
    """One setting: its most common default first, and which programs do not take it."""
    taking = {program: each for program, each in by_program.items() if each.taken}
    programs_of: dict[str, list[str]] = {}
    for program, each in taking.items():
        default = "a choice" if (CONF / each.key).is_dir() else f"`{show(each.default)}`"
        programs_of.setdefault(default, []).append(program)
    usual, *others = sorted(programs_of, key=lambda default: -len(programs_of[default]))
    defaults = "; ".join([usual, *(f"{', '.join(programs_of[other])}: {other}" for other in others)])
    without = [program for program in by_program if program not in taking]
    only = ""
    if without:
        only = f" Not in {', '.join(without)}." if len(without) < len(taking) else f" Only in {', '.join(taking)}."
    (setting, *_) = taking.values()
    return f"| `{setting.key}` | {defaults} | {setting.meaning}{only} |"


@click.command()
def write() -> None:
    """Writes docs/settings.md."""
    TARGET.write_text(make(), encoding="utf-8")
    click.echo(f"{TARGET} written")


if __name__ == "__main__":
    write()
