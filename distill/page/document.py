"""The gallery page as one HTML file: the template, style and script of `web/`, filled by jinja.

Everything that comes from a store, a data set or a run is escaped by the template. A content security policy in the
page allows its own style and script by their digests, images from `data:` URLs, and nothing else: the page cannot
request anything from the network.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import jinja2

from distill.errors import DistillError
from distill.files import write_file
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
    """The content of the page."""

    title: str
    about: str
    notices: tuple[Notice, ...]
    tiles: Sequence[Tile]
    tables: Sequence[Table]
    coverage: Coverage
    histograms: Sequence[Histogram]
    runs: Sequence[Run]
    panels: Sequence[Panel]
    examples: Sequence[Example]
    kinds: dict[str, tuple[str, str]]
    """Kind of row -> its name and what it means."""
    exact: bool
    """Whether replayed views are lossless."""


def render(document: Document) -> str:
    """The whole page, HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distill.page", "web"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"percent": percent}
    style, script = _text("style.css"), _text("script.js")
    counts = {kind: sum(kind in example.kinds for example in document.examples) for kind in KINDS}
    return environment.get_template("page.html").render(
        page=document, generator=GENERATOR, style=style, script=script, states=STATES,
        kinds=[(kind, *document.kinds[kind], counts[kind]) for kind in KINDS if counts[kind]],
        style_digest=_digest(style), script_digest=_digest(script),
    )  # fmt: skip


def fit(document: Document, *, chosen: int, max_bytes: float) -> tuple[Document, str]:
    """Leaves out the last rows until the page is small enough; a notice in it gives their number.

    **Arguments:** `chosen`: number of rows that were to be shown.

    **Returns:** the document as it fits, and its HTML.

    **Raises:** `DistillError` if the page is too large even without rows.
    """
    number = len(document.examples)
    while True:
        notices = document.notices
        if left := chosen - number:
            text = (
                f"{left} of {chosen} rows were left out to keep the page below {max_bytes / 1e6:g} MB: to show more, "
                "set a larger max_mb, show.pictures=jpeg, fewer show.epochs or a smaller show.size."
            )
            notices = (*notices, Notice("plain", text))
        shortened = replace(document, examples=document.examples[:number], notices=notices)
        page = render(shortened)
        size = len(page.encode())
        if size <= max_bytes:
            return shortened, page
        if not number:
            raise DistillError(f"max_mb={max_bytes / 1e6:g}: the page takes {size / 1e6:.2f} MB without a single row")
        number = min(number - 1, int(number * max_bytes / size))


def check_target(out: str) -> Path:
    """The file to be written. **Raises:** `DistillError` if its folder does not exist, or if a file is there that this
    program has not made."""
    path = Path(out)
    if path.is_dir() or not path.parent.is_dir():
        raise DistillError(f"cannot write out={path}: name a file, such as gallery.html, in a folder that exists")
    if path.exists():
        with path.open("rb") as file:
            if _MARK.encode() not in file.read(_MARK_WITHIN):
                raise DistillError(f"out={path} exists and is no page of {GENERATOR}: remove it, or name another file")
    return path


def write(path: Path, text: str) -> None:
    """Writes the page; a page that is there already is replaced only once the new one is complete.

    **Raises:** `DistillError` if the file cannot be written.
    """
    write_file(path, text, name=f"out={path}")


def percent(probability: float) -> str:
    """83.0 %, 4.2 %, 0.05 %, <0.01 %; 100 % only from 99.95 % on."""
    value = 100 * probability
    if value == 0 or value >= 99.95:
        return f"{value:.0f} %"
    if value < 0.01:
        return "<0.01 %"
    return f"{value:.2f} %" if value < 1 else f"{value:.1f} %"


def _text(name: str) -> str:
    return (resources.files("distill.page") / "web" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a source of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
