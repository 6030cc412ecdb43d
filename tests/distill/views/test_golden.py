"""What was drawn and rendered once is drawn and rendered for ever (under one version of the specs)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def report() -> dict:
    run = [sys.executable, str(HERE / "report.py"), "golden"]
    return json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads((HERE / "golden.json").read_text())


@pytest.mark.parametrize("part", ["words", "uniforms", "integers", "normals"])
def test_random_numbers(report, golden, part):
    assert report[part] == golden[part]


def test_drawn_views(report, golden):
    assert len(golden["views"]) == 66
    for now, kept in zip(report["views"], golden["views"], strict=True):
        assert now == kept


@pytest.mark.parametrize("part", ["digests", "operations", "spec digests", "jpeg"])
def test_rendered_pixels(report, golden, part):
    assert report[part] == golden[part]
