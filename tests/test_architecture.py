"""Who may import whom, and what an import may load.

The layers below are the order in which the packages are read: a module imports from lower layers only, so there is no
cycle. A new module or package of `distill`, `models` or `logitstore` must be given its layer here.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = {
    "pack", "save_logits", "verify_logits", "train_student", "evaluate", "export", "transfer", "contract", "gallery",
}  # fmt: skip

# Package -> its folder, and what stands directly in it, from the highest layer to the lowest. `__init__` is the package
# as others see it.
LAYERS: dict[str, tuple[str, tuple[frozenset[str], ...]]] = {
    "distill": (
        "distill",
        (
            frozenset({"__init__", "cli"}),
            frozenset({"contract", "transfer"}),
            frozenset({"contraction", "train_student"}),
            frozenset({"evaluate", "export", "gallery", "pack", "save_logits", "verify_logits", "probes", "student"}),
            frozenset({"evaluation", "exporting", "page", "teacher"}),
            frozenset({"inputs", "provenance", "replay", "runs"}),
            frozenset({"data", "runtime"}),
            frozenset({"config", "views"}),
            frozenset({"targets"}),
            frozenset({"files"}),
            frozenset({"errors"}),
        ),
    ),
    "distill.models": (
        "models",
        (
            frozenset({"__init__"}),
            frozenset({"teachers"}),
            frozenset({"features"}),
            frozenset({"contraction", "cost", "deploy", "weights"}),
            frozenset({"tinyvit"}),
            frozenset({"atomic", "errors", "image_model"}),
        ),
    ),
    "logitstore": (
        "logitstore",
        (
            frozenset({"__main__"}),
            frozenset({"cli"}),
            frozenset({"commands"}),
            frozenset({"__init__"}),
            frozenset({"tools"}),
            frozenset({"create", "writer"}),
            frozenset({"lock", "store"}),
            frozenset({"format"}),
            frozenset({"ranges", "spec", "storage"}),
            frozenset({"errors", "rows", "topk", "untrusted"}),
        ),
    ),
}

# What a folder may import beside the standard library.
ALLOWED = {
    "logitstore": {"logitstore", "numpy", "zarr", "numcodecs", "google_crc32c", "click", "rich", "fsspec", "xxhash"}
    | {"matplotlib", "pyarrow"},
    "models": {"distill", "torch", "torchvision", "timm", "safetensors", "numpy"},
    "distill/config": {"distill", "logitstore", "hydra", "omegaconf", "yaml"},
    "distill/targets": {"distill", "logitstore", "numpy", "torch"},
    "distill/views": {"distill", "numpy", "cv2", "PIL", "torch", "torchvision", "xxhash", "simplejpeg"},
    "distill/data": {"distill", "logitstore", "numpy", "torch", "webdataset", "xxhash", "fsspec", "cv2", "scipy"},
}

# Programs that run another one inside themselves: fine-tuning, which `transfer` measures, is a student pass.
RUNS_A_PROGRAM = {("distill.transfer", "train_student"), ("distill.probes.finetune", "train_student")}


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of everything that a file imports: modules, and `MODULE.NAME` for names taken from them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@cache
def files(folder: str) -> tuple[Path, ...]:
    """The Python files of a folder. Links to other folders are not followed: distill/models is checked as models."""
    found = [
        Path(parent, name) for parent, _, names in os.walk(ROOT / folder) for name in names if name.endswith(".py")
    ]
    assert found
    return tuple(sorted(found))


def module_name(path: Path, folder: str, package: str) -> str:
    parts = path.relative_to(ROOT / folder).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__" or len(parts) == 1)))


def members(package: str) -> set[str]:
    """The modules and packages that stand directly in a package."""
    folder = ROOT / LAYERS[package][0]
    modules = {path.stem for path in folder.glob("*.py")}
    packages = {path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    return modules | (packages - {"models", "conf"})


def imported_members(path: Path, package: str) -> set[str]:
    """The members of a package that a file imports; `__init__` where it takes a name from the package itself."""
    found = set()
    for name in imports(path):
        if name.startswith(f"{package}."):
            member = name.removeprefix(f"{package}.").split(".")[0]
            found |= {member} if member in members(package) else set()
    if package in imports(path) and not found:
        found = {"__init__"}
    return found


@pytest.mark.parametrize("package", LAYERS)
def test_every_member_has_one_layer(package: str) -> None:
    layers = LAYERS[package][1]
    assert members(package) <= set().union(*layers)
    assert sum(map(len, layers)) == len(set().union(*layers))


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_to_lower_layers(package: str) -> None:
    folder, layers = LAYERS[package]
    level = {member: number for number, layer in enumerate(layers) for member in layer}
    for path in files(folder):
        own = path.relative_to(ROOT / folder).with_suffix("").parts[0]
        for member in imported_members(path, package) - {own}:
            assert level[member] > level[own], f"{path}: {own} imports {member}, which is not in a lower layer"


def test_the_top_of_distill_holds_the_programs_and_what_they_share() -> None:
    modules = {path.stem for path in (ROOT / "distill").glob("*.py")}
    assert modules == PROGRAMS | {"__init__", "cli", "errors", "files", "inputs", "provenance"}


def test_nothing_imports_a_program() -> None:
    for path in files("distill"):
        name = module_name(path, "distill", "distill")
        for program in imported_members(path, "distill") & PROGRAMS:
            assert (name, program) in RUNS_A_PROGRAM, f"{path} imports distill.{program}"


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    for path in files(folder):
        tops = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        assert tops <= ALLOWED[folder], f"{path} imports {tops - ALLOWED[folder]}"


def test_models_and_views_stand_alone() -> None:
    """Models know no stores, data or training; views know nothing but their errors."""
    for folder, package in (("models", "distill.models"), ("distill/views", "distill.views")):
        for path in files(folder):
            ours = {name for name in imports(path) if name.split(".")[0] in ("distill", "logitstore")}
            others = {name for name in ours if not name.startswith((package, "distill.errors")) and name != "distill"}
            assert others <= {"distill.models"}, f"{path} imports {others}"


@pytest.mark.parametrize("folder", ["distill", "logitstore", "models", "conf", "scripts", "tests"])
def test_nothing_imports_models_or_conf_by_their_bare_names(folder: str) -> None:
    for path in files(folder):
        assert not {name for name in imports(path) if name.split(".")[0] in ("models", "conf")}, path


@pytest.mark.parametrize(
    ("modules", "not_loaded"),
    [
        ("logitstore, logitstore.cli", ("torch", "cv2", "timm", "distill")),
        ("logitstore, logitstore.cli", ("fsspec", "s3fs", "pyarrow", "matplotlib")),
        ("distill, distill.cli", ("torch", "cv2", "timm", "hydra", "logitstore")),
    ],
)
def test_an_import_loads_no_more_than_it_needs(modules: str, not_loaded: tuple[str, ...]) -> None:
    code = f"import sys, {modules}; print(sorted(name for name in {not_loaded} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
