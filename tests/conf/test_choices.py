"""The YAML choices of teachers and students: keys as agreed, each student built, its comment true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from distill import models

CONF = Path(__file__).parents[2] / "conf"
TEACHER_KEYS = ["kind", "name", "weights", "num_classes", "image_size", "mean", "std", "crop", "interpolation"]
STUDENT_KEYS = [
    *("name", "drop_path", "image_size", "dims", "depths", "heads", "windows", "mlp_ratio", "expand"),
    "stem_stride",
]


def paths(group: str) -> list[Path]:
    found = sorted((CONF / group).glob("*.yaml"))
    assert found
    return found


@pytest.mark.parametrize("path", paths("student"), ids=lambda path: path.stem)
def test_student_builds_and_its_comment_is_true(path: Path) -> None:
    text = path.read_text()
    values = yaml.safe_load(text)
    assert list(values) == [key for key in STUDENT_KEYS if key in values]
    classes = int(re.search(r"at ([\d,]+) classes", text)[1].replace(",", ""))  # type: ignore[index]
    net = models.build(**values, num_classes=classes)
    assert f"# {models.count_params(net) / 1e6:.2f} M parameters" in text
    macs = models.count_macs(net, values.get("image_size", 224))
    shown = f"{macs / 1e9:.2f} G" if macs > 1e9 else f"{macs / 1e6:.1f} M multiply"
    assert shown in text


@pytest.mark.parametrize("path", paths("teacher"), ids=lambda path: path.stem)
def test_teacher_file_is_a_request_or_our_own_error(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    assert list(values) == [key for key in TEACHER_KEYS if key in values]
    if values["kind"].startswith("efficientnet"):
        assert models.build_teacher(**values).kind == path.stem
    else:
        with pytest.raises(models.ModelError, match="needs "):
            models.build_teacher(**values)
