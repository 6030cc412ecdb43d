"""Every snippet of docs/library.md runs, in its order, in one namespace: small images, a data set of 150 of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.programs import ROOT

PAGE = ROOT / "docs" / "library.md"


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.slow
def test_every_snippet_runs(data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "train").symlink_to(data_path)
    names: dict[str, object] = {}
    found = snippets()
    assert len(found) == 9
    for number, snippet in enumerate(found):
        if "export_onnx" in snippet:
            pytest.importorskip("onnxscript")
        small = re.sub(r"\b224\b", "32", snippet)  # So that a CPU does it in seconds.
        exec(compile(small, f"snippet {number + 1} of {PAGE.name}", "exec"), names)
    assert isinstance(names["logits"], torch.Tensor)
    assert (tmp_path / "net.onnx").exists()


def test_the_page_names_what_there_is() -> None:
    import distill
    from distill import models

    text = PAGE.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bmodels\.(\w+)", text)):
        assert name in models.__all__, name
    for line in re.findall(r"^from distill import (.*)$", text, flags=re.M):
        assert {name.strip() for name in line.split(",")} - {"models"} <= set(distill.__all__)
