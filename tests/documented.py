"""Commands that the pages show: found in their Markdown, parsed, and checked by the programs' own parsers.

A page's fenced `bash`, `sh` and `console` blocks hold command lines (in a `console` block those after `$ `). A comment
before a block says what the tests do with it:

    no comment                   every command of it is run
    <!-- checked: WHY -->        every command is parsed by its program's parser, and not run
    <!-- not run: WHY -->        nothing
"""

from __future__ import annotations

import contextlib
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from distill.cli import PROGRAMS
from distill.config import command
from distill.pack import main as pack_command
from logitstore.cli import main as logitstore_command
from tests.programs import ROOT, SCHEMAS

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.S | re.M)
_MARKER = re.compile(r"<!-- (checked|not run): (\S[^>]*?) -->\s*\Z")
_INLINE = re.compile(r"`((?:python|torchrun|accelerate launch|distill|logitstore|pip install)\s[^`]+)`")
SHELL = {"bash", "sh", "console"}
NEEDED = {  # What each program requires, where a command leaves arguments out; its own come after these and win.
    "save_logits": ("data.path=x", "store.path=x"),
    "train_student": ("data.path=x", "run.dir=x"),
    "contract": ("data.path=x", "store.path=x", "run.dir=x", "limits.params=1e6"),
    "evaluate": ("data.val_path=x", "run.dir=x"),
    "export": ("run.dir=x",),
    "transfer": ("data.path=x", "data.val_path=x", "run.dir=x", "out=x"),
    "verify_logits": ("data.path=x", "store.path=x"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command line of a page."""

    page: str
    line: int
    words: str
    fate: str
    """`run`, `checked`, `not run`, or `mention`: in the middle of a sentence."""
    why: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.words}"


class Undocumented(Exception):
    """A command that a page shows and its program would refuse."""


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_in(page: Path) -> list[Command]:
    """Every command of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    found = [
        Command(page=name, line=line, words=words, fate=fate, why=why)
        for block in _FENCE.finditer(text)
        if block[2] in SHELL
        for fate, why in [_fate(text[: block.start()])]
        for line, words in _lines(block[3], _line(text, block.start(3)), prompts=block[2] == "console")
    ]
    # Spans may run over the end of a line; blocks are blanked so that their lines still count.
    prose = _FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    for span in _INLINE.finditer(prose):
        words = " ".join(span[1].split())
        found.append(Command(page=name, line=_line(prose, span.start()), words=words, fate="mention"))
    return found


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _fate(before: str) -> tuple[str, str]:
    marker = _MARKER.search(before)
    return (marker[1], marker[2]) if marker else ("run", "")


def _lines(block: str, first: int, *, prompts: bool) -> Iterator[tuple[int, str]]:
    """Command lines of a block: continued lines joined, comments and what was printed left out."""
    number, lines = first, iter(block.splitlines())
    for line in lines:
        start = number
        number += 1
        if prompts and not line.startswith("$ "):
            continue
        line = line.removeprefix("$ ") if prompts else line
        while line.endswith("\\"):
            line = f"{line[:-1].strip()} {next(lines).strip()}"
            number += 1
        if words := re.sub(r"(^|\s)#\s.*", "", line).strip():
            yield start, words


def check(line: str) -> None:
    """Parses a command line as its program would. **Raises:** `Undocumented` where the program would refuse it."""
    for part in re.split(r"\s*(?:;|&&)\s*", line):
        words = shlex.split(part, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]  # Settings of the environment.
        if words:
            _check_words(words)


def _check_words(words: list[str]) -> None:
    match words:
        case (
            ["python", "-m", "distill.pack", *rest] | ["python", "scripts/pack.py", *rest] | ["distill", "pack", *rest]
        ):
            _check_click(pack_command, rest)
        case ["python", "-m", module, *rest] if module.startswith("distill."):
            _check_program(module.removeprefix("distill."), rest)
        case ["distill", program, *rest] if program in PROGRAMS:
            _check_program(program.replace("-", "_"), rest)
        case ["python", "-m", "logitstore", *rest] | ["logitstore", *rest]:
            _check_click(logitstore_command, rest)
        case ["python", path, *rest] if path.startswith("scripts/"):
            _check_script(path, rest)
        case ["torchrun", *rest]:
            _check_launched(rest, get_args_parser())
        case ["accelerate", "launch", *rest]:
            _check_launched(rest, launch_command_parser())
        case ["pip", "install", *rest]:
            _check_extras(rest)
        case ["sbatch", *rest]:
            _check_there(next((word for word in rest if not word.startswith("-")), "script for sbatch"))
        case [path, *_] if path.startswith(("./scripts/", "scripts/")):
            _check_there(path)
        case _:
            raise Undocumented(
                f"no parser is known for {words[0]!r}: run it, or mark its block `not run` with a reason"
            )


def _check_there(path: str) -> None:
    if not (ROOT / path).is_file():
        raise Undocumented(f"there is no {path}")


def _check_launched(words: list[str], parser: Any) -> None:
    """A launcher's own options, and the program that it starts."""
    place = next((n for n, word in enumerate(words) if word == "-m" or word.startswith("scripts/")), len(words))
    launcher, program = words[:place], words[place:]
    if not program:
        if launcher not in ([], ["..."]):
            raise Undocumented("the launcher is given no program")
        return
    try:
        parser.parse_args([*_numbers(launcher), "x.py"])
    except SystemExit:
        raise Undocumented(f"the launcher refuses {launcher}") from None
    _check_words(["python", *program])


def _check_program(name: str, words: list[str]) -> None:
    if name not in SCHEMAS:
        raise Undocumented(f"there is no program distill.{name}")
    if "--help" in words:
        return
    flags = {"--print-config", "--dry-run"}
    settings = [word for word in _numbers(words) if word not in flags and not word.endswith("...")]
    needed = NEEDED.get(name, ()) if len(settings) < len(set(words) - flags) or not words else ()
    try:
        command.load(name, SCHEMAS[name], [*needed, *settings])
    except Exception as error:
        raise Undocumented(str(error)) from None


def _check_script(path: str, words: list[str]) -> None:
    _check_there(path)
    text = (ROOT / path).read_text()
    if "@click.command" not in text and "@click.group" not in text:
        unknown = [word for word in words if word.startswith("-") and f'"{word.split("=")[0]}"' not in text]
        if unknown:
            raise Undocumented(f"{path} knows no {', '.join(unknown)}")
        return
    _check_click(click_command_of(path), words)


def click_command_of(path: str) -> click.Command:
    """The command line of a script."""
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    commands = [value for value in vars(module).values() if isinstance(value, click.Command)]
    groups = [value for value in commands if isinstance(value, click.Group)]
    inner = {id(each) for group in groups for each in group.commands.values()}
    (outermost,) = [value for value in commands if id(value) not in inner]
    return outermost


def _check_click(known: click.Command, words: list[str]) -> None:
    """Arguments and options through click, subcommand by subcommand; files need not be there."""
    words = [word for word in _numbers(words) if not word.endswith("...")]
    try:
        while isinstance(known, click.Group):
            if not words:
                return
            with known.make_context("x", list(words), resilient_parsing=True) as context:
                _, inner, words = known.resolve_command(context, words)
            if inner is None:
                raise Undocumented("there is no such command")
            known = inner
        if words:
            known.make_context("x", list(words))
    except click.exceptions.Exit:
        return  # --help
    except click.ClickException as error:
        raise Undocumented(error.format_message()) from None


def _check_extras(words: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words:
        wanted = re.fullmatch(r"(\.|distill)\[([\w,]+)\]", word)
        for extra in wanted[2].split(",") if wanted else ():
            if extra not in project["optional-dependencies"]:
                raise Undocumented(f"pyproject.toml has no extra {extra!r}")


def _numbers(words: list[str]) -> list[str]:
    """A bare N in a page stands for any number."""
    return [re.sub(r"(^|=)N$", r"\g<1>64", word) for word in words]


@contextlib.contextmanager
def files_need_not_exist() -> Iterator[None]:
    """click takes paths of files that are not there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(click.Path, "convert", lambda self, value, *_: self.coerce_path_result(value))
        yield
