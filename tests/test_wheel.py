"""The wheel: what it holds, and that it works in a folder with packages `models`, `conf`, `data` and `config`.

`scripts/prove/wheel.py` does the same with real environments, and every program.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.prove import wheel
from tests.conftest import write_images
from tests.programs import ROOT, student_arguments

pytest.importorskip("setuptools", minversion="77", reason="the project is built by setuptools >= 77")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheel")


@pytest.fixture(scope="module")
def built(work: Path) -> tuple[Path, Path, Path]:
    return wheel.build(work)


@pytest.fixture(scope="module")
def installed(work: Path, built: tuple[Path, Path, Path]) -> Path:
    """A folder with the installed wheel alone."""
    target = work / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(built[1])], check=True, capture_output=True)
    return target


@pytest.fixture(scope="module")
def user_folder(work: Path) -> Path:
    wheel.make_user_folder(work / "user")
    return work / "user"


def run(installed: Path, user_folder: Path, *arguments: str) -> str:
    """What Python, started in the user's folder, prints with the wheel and without the checkout."""
    env = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=user_folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_two_packages_with_all_that_they_read(work: Path, built: tuple[Path, Path, Path]) -> None:
    sdist, file, _ = built
    wheel.check_files(sdist, file, work)
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
    for package in ("distill", "logitstore"):
        of_package = [path for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts]
        assert {path.relative_to(ROOT).as_posix() for path in of_package} <= names
    for folder, patterns in (("models", ("*.py", "py.typed")), ("conf", ("*.py", "*.yaml"))):
        files = [path for pattern in patterns for path in (ROOT / folder).rglob(pattern)]
        assert len(files) > 20
        assert {f"distill/{path.relative_to(ROOT).as_posix()}" for path in files} <= names
    assert {"distill/py.typed", "logitstore/py.typed", "distill/models/py.typed"} <= names
    web = {path.relative_to(ROOT).as_posix() for path in (ROOT / "distill" / "page" / "web").iterdir()}
    assert len(web) >= 4 and web <= names
    assert not any("__pycache__" in name for name in names)


def test_its_metadata_is_that_of_the_project(installed: Path) -> None:
    (found,) = importlib.metadata.distributions(path=[str(installed)])
    assert (found.name, found.version) == ("distill", importlib.metadata.version("distill"))
    assert {entry.name: entry.value for entry in found.entry_points} == {
        "distill": "distill.cli:main", "logitstore": "logitstore.cli:main",
    }  # fmt: skip
    assert (found.read_text("top_level.txt") or "").split() == ["distill", "logitstore"]
    assert found.metadata["License-Expression"] == "Apache-2.0"


def test_the_users_packages_stay_the_users(installed: Path, user_folder: Path) -> None:
    code = "import models.mine, distill.models, distill.conf; print(models.mine.__file__, distill.models.__file__)"
    mine, ours = run(installed, user_folder, "-c", code).split()
    assert Path(mine) == user_folder / "models" / "mine.py"
    assert Path(ours) == installed / "distill" / "models" / "__init__.py"


def test_nothing_is_importable_by_the_bare_names(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing_bare.py").write_text(wheel.NOTHING_BARE)
    assert str(installed / "distill") in run(installed, tmp_path, "nothing_bare.py")


@pytest.mark.slow
def test_every_program_prints_its_help(installed: Path, user_folder: Path) -> None:
    code = """
import sys
from distill import cli
for name in cli.PROGRAMS:
    try:
        cli.main([name, "--help"])
    except SystemExit as stop:
        assert not stop.code, name
    print("----")
"""
    texts = run(installed, user_folder, "-c", code).split("----\n")
    assert len(texts) == 10 and not texts.pop()
    assert all("Example" in text or "Usage" in text or "python -m distill" in text for text in texts)
    assert all("tiny_vit_5m" in text for text in texts if "student=" in text)


@pytest.mark.slow
def test_images_are_packed_and_a_student_is_trained(installed: Path, user_folder: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 60)
    data = tmp_path / "data"
    run(installed, user_folder, "-m", "distill.pack", str(tmp_path / "images"), str(data))
    words = student_arguments(data, tmp_path / "run", "train.steps=2", "data.workers=1")
    run(installed, user_folder, "-m", "distill.cli", "train-student", *words)
    assert (tmp_path / "run" / "student.safetensors").exists()
