"""A gallery page, parsed for tests."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
from PIL import Image

_VOID_TAGS = {"img", "meta", "link", "br", "input", "rect", "line", "circle", "path", "polyline"}


@dataclass
class ParsedPage(HTMLParser):
    """The tags, texts and views of a gallery page. **Raises** AssertionError on tags that do not nest."""

    text: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID_TAGS:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def visible(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def views(self) -> dict[tuple[int, int], np.ndarray]:
        """(epoch, row) -> pixels."""
        pixels = {}
        for tag, attributes in self.tags:
            if tag == "img" and (match := re.match(r"Row (\d+) as replayed for epoch (\d+)", attributes["alt"])):
                data = base64.b64decode(attributes["src"].partition(",")[2])
                pixels[int(match[2]), int(match[1])] = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        return pixels

    def rows(self) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if attributes.get("class") == "row"]
