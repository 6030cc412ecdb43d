"""Who may import whom, and what an import may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What each package may import beyond the standard library.
ALLOWED = {
    "logitstore": {"logitstore", "numpy", "zarr", "numcodecs", "google_crc32c", "click", "rich", "fsspec", "xxhash"}
    | {"matplotlib", "pyarrow"},
    "models": {"models", "torch", "torchvision", "timm", "safetensors", "numpy"},
    "distill/views": {"distill", "numpy", "cv2", "PIL", "torch", "torchvision", "xxhash", "simplejpeg"},
    "distill/data": {"distill", "logitstore", "numpy", "torch", "webdataset", "xxhash", "fsspec", "cv2", "scipy"},
}


def imports(path: Path) -> set[str]:
    """Full names of all modules a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        tops = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        assert tops <= ALLOWED[package], f"{path} imports {tops - ALLOWED[package]}"


def test_views_know_nothing_of_stores_data_or_training() -> None:
    for path in sorted((ROOT / "distill" / "views").glob("*.py")):
        inner = {name for name in imports(path) if name.startswith("distill")}
        assert all(name.startswith("distill.views") or name == "distill.errors" for name in inner), path


def test_nothing_imports_an_entry_module() -> None:
    entries = {"distill.save_logits", "distill.train_student", "distill.evaluate", "distill.verify_logits"}
    entries |= {"distill.export", "distill.transfer", "distill.contract", "distill.gallery"}
    for path in sorted((ROOT / "distill").rglob("*.py")):
        assert not imports(path) & entries, path


def test_importing_logitstore_loads_no_torch() -> None:
    code = (
        "import sys, logitstore, logitstore.cli; print(sorted(m for m in ('torch', 'cv2', 'timm') if m in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_importing_logitstore_needs_no_optional_package() -> None:
    names = ("fsspec", "s3fs", "pyarrow", "matplotlib")
    code = f"import sys, logitstore, logitstore.cli; print(sorted(m for m in {names} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
