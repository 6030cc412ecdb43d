"""Settings of `distill.gallery` that are refused."""

from __future__ import annotations

import pytest

from distill.config import GalleryConfig, ShowConfig, StoreConfig
from distill.errors import UsageError


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match=r"show.pictures=png"):
        ShowConfig(pictures="png")
    with pytest.raises(UsageError, match=r"show.pick=-1"):
        ShowConfig(pick=[3, -1])
    with pytest.raises(UsageError, match=r"out is not set"):
        GalleryConfig(store=StoreConfig(path="s"))
    with pytest.raises(UsageError, match=r"named twice"):
        GalleryConfig(out="x", store=StoreConfig(path="s"), runs=["a", "a/"])
