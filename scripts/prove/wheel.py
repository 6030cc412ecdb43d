"""Proof that the installed project works in any folder: wheel, sdist and editable installation.

    python scripts/prove/wheel.py runs/wheel                              # downloads all dependencies, torch too
    python scripts/prove/wheel.py runs/wheel --site-packages .venv/lib/python3.11/site-packages

WORK, which must not exist, gets the built files, a virtual environment and a user's folder with packages `models`,
`conf`, `data` and `config` of its own. There everything runs as a user would run it: `--help` of every program, then
packing, teacher pass, verification, student pass, evaluation, export and gallery, half of them as `python -m distill.X`
and half as `distill X`. Prints a transcript and exits with 1 at the first failure.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("distill", "logitstore", "models", "conf", "pyproject.toml", "README.md", "LICENSE")
"""What the project is built from; distill/models and distill/conf are links to models and conf."""
FOREIGN = ("conf", "data", "config")
"""Packages of the user's folder that nothing of ours may import."""

MAKE_PARTS = '''\
"""Images of three classes, and a tiny teacher for them."""
import sys
from pathlib import Path

import cv2
import numpy as np
import torch

import models.mine
from distill import models as networks

random = np.random.default_rng(0)
for number in range(120):
    split, label = ("val" if number >= 90 else "train"), number % 3
    rows, columns = np.mgrid[0:40, 0:48]
    stripes = ((rows, columns, rows + columns)[label] // 4 % 2 * 160).astype(np.uint8)
    folder = Path("images", split, ("n01440764", "n01443537", "n01484850")[label])
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{number:04d}.jpg"), stripes[..., None] + random.integers(0, 80, (40, 48, 3), np.uint8))
torch.manual_seed(0)
tiny = {"dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "heads": [1, 1, 2, 2], "windows": [4, 4, 4, 4]}
net = networks.build("tiny_vit", num_classes=3, image_size=32, **tiny)
names = '["n01440764", "n01443537", "n01484850"]'
networks.save_weights(net, "teacher.safetensors", metadata={
    "mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]", "class_names": names})
print("of the user:", Path(models.mine.__file__).relative_to(Path.cwd()), "; of distill:", networks.__name__)
'''
NOTHING_BARE = """\
import importlib.util
import distill, logitstore
found = [name for name in ("models", "conf") if importlib.util.find_spec(name)]
print(*distill.__path__, *logitstore.__path__, "; under the names models and conf:", found or "nothing")
raise SystemExit(bool(found))
"""

TEACHER = "data.path=train teacher=tiny_vit teacher.weights=teacher.safetensors store.path=teacher.zarr data.workers=1"
STUDENT = (
    "student=tiny_vit_micro student.image_size=32 student.dims=[8,16,24,32] student.depths=[1,1,1,1] "
    "student.heads=[1,1,2,2] student.windows=[4,4,4,4] train.steps=4 train.batch_size=16 optim.base_batch=null "
    "data.workers=1"
)
COMMANDS = (
    "distill pack images/train train --rows-per-shard 30",
    "python -m distill.pack images/val val --rows-per-shard 30",
    f"python -m distill.save_logits {TEACHER} store.topk=2 store.epochs=2 view=randaugment batch_size=16",
    "logitstore info teacher.zarr",
    "python -m logitstore check teacher.zarr",
    f"distill verify-logits {TEACHER} check.rows=8",
    f"distill train-student data.path=train data.val_path=val store.path=teacher.zarr run.dir=run {STUDENT}",
    "python -m distill.evaluate data.val_path=val run.dir=run",
    "distill export run.dir=run format=safetensors out=exported.safetensors",
    "python -m distill.gallery data.path=train store.path=teacher.zarr runs=[run] out=gallery.html show.rows=2",
)


def build(work: Path) -> tuple[Path, Path, Path]:
    """Builds in a copy of the project. **Returns** an sdist, a wheel and an editable wheel."""
    source = work / "source"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source / name)
    made = [_built(source, kind, work / kind) for kind in ("sdist", "wheel", "editable")]
    return made[0], made[1], made[2]


def _built(source: Path, kind: str, target: Path) -> Path:
    """Runs `build_KIND` of the build back-end on a source tree. **Returns** the file that it writes into `target`."""
    target.mkdir()
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=source, capture_output=True, text=True)
    if done.returncode:
        output = f"{done.stdout[-1000:]}{done.stderr[-3000:]}"
        raise click.ClickException(f"cannot build the {kind} (it needs setuptools >= 77):\n{output}")
    (file,) = target.iterdir()
    return file


def files_of(wheel: Path) -> dict[str, int]:
    """Names and CRC-32 of a wheel's files, without its metadata."""
    with zipfile.ZipFile(wheel) as file:
        return {each.filename: each.CRC for each in file.infolist() if ".dist-info/" not in each.filename}


def check_files(sdist: Path, wheel: Path, work: Path) -> None:
    """The wheel holds only distill and logitstore, and no links; the sdist makes the same wheel."""
    files = files_of(wheel)
    tops = sorted({name.split("/")[0] for name in files})
    if tops != ["distill", "logitstore"]:
        raise click.ClickException(f"{wheel.name} has {tops} at its top")
    with tarfile.open(sdist) as tar:
        links = [member.name for member in tar if member.issym() or member.islnk()]
        tar.extractall(work / "unpacked", filter="data")
    (unpacked,) = (work / "unpacked").iterdir()
    if links or files_of(_built(unpacked, "wheel", work / "wheel_of_sdist")) != files:
        raise click.ClickException(f"{sdist.name} makes another wheel, or holds links: {links}")
    click.echo(f"{wheel.name}: {len(files)} files in {' and '.join(tops)}; {sdist.name} makes the same wheel")


def make_environment(folder: Path, site_packages: Path | None) -> Path:
    """A virtual environment. **Returns** its Python.

    **Arguments:** `site_packages`: a folder whose packages can be imported too. An editable installation of this
    project in it is not seen: `.pth` files count only in a folder that is itself one of Python's site-packages.
    """
    venv.create(folder, with_pip=True, symlinks=True)
    if site_packages:
        own = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (own / "borrowed.pth").write_text(f"{site_packages.resolve()}\n")
    return folder / "bin" / "python"


def make_user_folder(folder: Path) -> None:
    """A project of somebody else, with the package names that everybody uses."""
    for name in (*FOREIGN, "models"):
        (folder / name).mkdir(parents=True)
    for name in FOREIGN:
        (folder / name / "__init__.py").write_text(f"raise ImportError('{name} of the user was imported')\n")
    (folder / "models" / "__init__.py").write_text("")
    (folder / "models" / "mine.py").write_text("")
    (folder / "make_parts.py").write_text(MAKE_PARTS)


def environment(python: Path) -> dict[str, str]:
    """Environment variables for commands of a virtual environment."""
    left_out = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PATH": f"{python.parent}:{kept['PATH']}", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}


def run(command: str, *, folder: Path, python: Path, head: int = 0, tail: int = 12) -> None:
    """Runs a command line as a user would, and prints it with the first and the last lines of its output."""
    work = f"{folder.parent}/"
    click.echo(f"\n$ {command.replace(work, '')}")
    done = subprocess.run(command, shell=True, cwd=folder, env=environment(python), capture_output=True, text=True)
    lines = done.stdout.rstrip().splitlines()
    if len(lines) > head + tail:
        lines = [*lines[:head], "...", *lines[len(lines) - tail :]]
    for line in lines:
        click.echo(line.replace(work, ""))
    if done.returncode:
        raise click.ClickException(f"exit code {done.returncode}\n{done.stderr[-3000:]}")


def programs(python: Path, folder: Path) -> list[str]:
    """The sub-commands of the installed command `distill`."""
    code = "from distill.cli import PROGRAMS; print(*PROGRAMS)"
    return subprocess.check_output([python, "-c", code], cwd=folder, env=environment(python), text=True).split()


def use(python: Path, folder: Path) -> None:
    """Runs everything in a user's folder."""
    run("distill --version", folder=folder, python=python)
    for name in programs(python, folder):
        run(f"python -m distill.{name.replace('-', '_')} --help", folder=folder, python=python, head=1, tail=0)
    run("distill --help", folder=folder, python=python, tail=99)
    run("logitstore --help", folder=folder, python=python, tail=99)
    run("python make_parts.py", folder=folder, python=python)
    for command in COMMANDS:
        run(command, folder=folder, python=python)
    if "tench" not in (folder / "gallery.html").read_text():
        raise click.ClickException("the gallery page does not put WordNet ids into words")


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--site-packages", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Borrow the dependencies from this folder instead of installing them.")  # fmt: skip
def main(work: Path, site_packages: Path | None) -> None:
    """Builds, installs and uses the project in WORK, a new folder."""
    work = work.absolute()
    work.mkdir(parents=True)
    sdist, wheel, editable = build(work)
    check_files(sdist, wheel, work)
    python = make_environment(work / "venv", site_packages)
    user, other = work / "user", work / "other"
    make_user_folder(user)
    other.mkdir()
    (other / "nothing_bare.py").write_text(NOTHING_BARE)

    run(
        f"python -m pip install --quiet {'--no-deps ' if site_packages else ''}{shlex.quote(str(wheel))}",
        folder=other,
        python=python,
    )
    run("python nothing_bare.py", folder=other, python=python)
    use(python, user)

    run(
        f"python -m pip install --quiet --no-deps --force-reinstall {shlex.quote(str(editable))}",
        folder=other,
        python=python,
    )
    run("python nothing_bare.py", folder=other, python=python)
    run("python make_parts.py", folder=user, python=python)
    run("distill pack images/train packed_again --rows-per-shard 30", folder=user, python=python)
    click.echo("\nwheel, sdist and editable installation agree; the user's models and conf stay the user's")


if __name__ == "__main__":
    main()
