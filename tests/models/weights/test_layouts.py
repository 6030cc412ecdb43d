"""Published names and shapes, from layouts/: key, shape and dtype of every tensor of a 5M checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill import models
from distill.models.weights import layouts

LAYOUTS = Path(__file__).parent / "layouts"


def published(layout: str) -> dict[str, str]:
    lines = (LAYOUTS / f"{layout}.tsv").read_text().splitlines()
    return {name: shape for name, shape, _ in (line.split("\t") for line in lines)}


@pytest.mark.parametrize("layout", ["official", "mmpretrain"])
def test_published_names_and_shapes_become_ours(layout: str) -> None:
    theirs = published(layout)
    assert layouts.recognise(theirs) == layout
    ours = {
        name: "x".join(map(str, tensor.shape)) or "scalar"
        for name, tensor in models.build("tiny_vit_5m", num_classes=1000).state_dict().items()
    }
    assert {layouts.to_ours(name, layout=layout): shape for name, shape in theirs.items()} == ours
    assert {layouts.from_ours(name, layout=layout): shape for name, shape in ours.items()} == theirs


def test_our_names_stay() -> None:
    names = list(models.build("tiny_vit_5m", num_classes=2).state_dict())
    assert layouts.recognise(names) == "ours and timm"
    for rename in (layouts.to_ours, layouts.from_ours):
        assert [rename(name, layout="ours and timm") for name in names] == names


def test_other_names_are_not_recognised() -> None:
    assert layouts.recognise(["conv1.weight", "fc.weight"]) is None
