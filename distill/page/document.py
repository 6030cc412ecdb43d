"""All that was found, into one HTML file: the template, style and script of `web/`, filled by jinja.

Everything that comes from a store, a data set or a run is escaped by the template. A content security policy in the
page allows its own style and script by their digests, pictures from `data:` addresses, and nothing else: the page
cannot ask the network for anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from distill.errors import DistillError
from distill.page.charts import Histogram, Panel
from distill.page.coverage import STATES, Coverage
from distill.page.curves import Run
from distill.page.facts import Table, Tile
from distill.page.replayed import Notice
from distill.page.row_choice import KINDS
from distill.page.rows import Example

GENERATOR = "distill.gallery"
_MARK = f'<meta name="generator" content="{GENERATOR}">'
_MARK_WITHIN = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What the page says."""

    title: str
    about: str
    notices: tuple[Notice, ...]
    tiles: Sequence[Tile]
    tables: Sequence[Table]
    coverage: Coverage
    histograms: Sequence[Histogram]
    runs: Sequence[Run]
    panels: Sequence[Panel]
    exhibits: Sequence[Example]
    kinds: dict[str, tuple[str, str]]
    """Kind of row -> its name and what it means."""
    exact: bool
    """Whether replayed views are kept without loss."""


def render(document: Document) -> str:
    """The whole page, HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distill.page", "web"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": percent}
    style, script = _text("style.css"), _text("script.js")
    counts = {kind: sum(kind in each.kinds for each in document.exhibits) for kind in KINDS}
    return environment.get_template("page.html").render(
        page=document, generator=GENERATOR, style=style, script=script, states=STATES,
        kinds=[(kind, *document.kinds[kind], counts[kind]) for kind in KINDS if counts[kind]],
        style_digest=_digest(style), script_digest=_digest(script),
    )  # fmt: skip


def fit(document: Document, *, chosen: int, most_bytes: float) -> tuple[Document, str]:
    """The page with as many of its rows, in their order, as there is room for; it says how many that leaves out.

    **Arguments:** `chosen`: rows that were to be shown.

    **Raises:** `DistillError` if there is no room for the page without rows.
    """
    number = len(document.exhibits)
    while True:
        notices = document.notices
        if left := chosen - number:
            text = (
                f"{left} of {chosen} rows were left out to keep the page below {most_bytes / 1e6:g} MB: a larger "
                "max_mb, or show.pictures=jpeg, fewer show.epochs or a smaller show.size make room."
            )
            notices = (*notices, Notice("plain", text))
        fitting = replace(document, exhibits=document.exhibits[:number], notices=notices)
        page = render(fitting)
        size = len(page.encode())
        if size <= most_bytes:
            return fitting, page
        if not number:
            raise DistillError(f"max_mb={most_bytes / 1e6:g}: the page takes {size / 1e6:.2f} MB without a single row")
        number = min(number - 1, int(number * most_bytes / size))


def check_target(out: str) -> Path:
    """The file to be written. **Raises:** `DistillError` if it is there and is no page of this program, or has no
    folder."""
    path = Path(out)
    if path.is_dir() or not path.parent.is_dir():
        raise DistillError(f"cannot write out={path}: name a file, such as gallery.html, in a folder that exists")
    if path.exists():
        with path.open("rb") as file:
            if _MARK.encode() not in file.read(_MARK_WITHIN):
                raise DistillError(
                    f"out={path} is there and is no page of {GENERATOR}: remove it, or name another file"
                )
    return path


def write(path: Path, text: str) -> None:
    """Writes the page, all at once. **Raises:** `DistillError`."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DistillError(f"cannot write out={path}: {error.strerror}") from None


def percent(probability: float) -> str:
    """83 %, 4.2 %, 0.05 %, <0.01 %; 100 % only for what rounds to it from above 99.95 %."""
    value = 100 * probability
    if value == 0 or value >= 99.95:
        return f"{value:.0f} %"
    if value < 0.01:
        return "<0.01 %"
    return f"{value:.2f} %" if value < 1 else f"{value:.1f} %"


def _text(name: str) -> str:
    return (resources.files("distill.page") / "web" / name).read_text(encoding="utf-8")


def _digest(text: Any) -> str:
    """As a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
