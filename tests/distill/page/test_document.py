"""The HTML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import DistillError
from distill.page import document


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (1, "100 %"),
        (0.9996, "100 %"),
        (0.9994, "99.9 %"),
        (0.051, "5.1 %"),
        (0.0042, "0.42 %"),
        (1e-6, "<0.01 %"),
        (0, "0 %"),
    ],
)
def test_percent(probability: float, text: str) -> None:
    assert document.percent(probability) == text


def test_only_a_page_is_replaced(tmp_path: Path) -> None:
    other = tmp_path / "notes.html"
    other.write_text("<p>mine</p>")
    with pytest.raises(DistillError, match=r"is no page of distill.gallery"):
        document.check_target(str(other))
    with pytest.raises(DistillError, match=r"in a folder that exists"):
        document.check_target(str(tmp_path / "no" / "gallery.html"))
    with pytest.raises(DistillError, match=r"in a folder that exists"):
        document.check_target(str(tmp_path))
