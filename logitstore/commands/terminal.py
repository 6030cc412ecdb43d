"""What the commands share: options, a progress bar on stderr, tables and histograms as text."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from logitstore.errors import SpecError
from logitstore.ranges import parse
from logitstore.untrusted import printable, terminal

STORE = click.argument("store")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
EPOCHS = click.option("--epochs", help="Stored epochs, such as 0,2-3; all when left out.")

_BAR = 40


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr for (what, done, total); none where stderr is no terminal or output is for programs."""
    screen = Console(file=terminal(sys.stderr))
    with Progress(console=screen, transient=True, disable=not (shown and screen.is_terminal)) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def console() -> Console:
    """A console without markup and highlighting, because names in the output come from outside."""
    return Console(file=terminal(sys.stdout), markup=False, highlight=False, emoji=False)


def print_json(values: Any) -> None:
    """One line for programs."""
    click.echo(json.dumps(values))


def print_pairs(rows: list[tuple[str, str]]) -> None:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    screen = console()
    for name, value in rows:
        screen.print(printable(f"{name:<{width}}  {value}".rstrip()), soft_wrap=True)


def print_histogram(counts: list[int], edges: list[float]) -> None:
    """A bar per bin."""
    most = max(*counts, 1)
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "█" * round(count / most * _BAR) or ("▏" if count else "")
        click.echo(f"  {low:7.3f} to {high:7.3f}  {count:>12,}  {bar}".rstrip())


def parse_epochs(text: str | None) -> list[int] | None:
    """`0,2-3` as numbers, None for None. Any other text is wrong usage."""
    if text is None:
        return None
    try:
        return parse(text)
    except SpecError as error:
        raise click.BadParameter(str(error), param_hint="--epochs") from None


def human_bytes(size: float) -> str:
    """Bytes in the largest unit that leaves at least 1."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
