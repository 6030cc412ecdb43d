"""Every command in README.md and docs/: run here, or parsed as its program would, or marked with why not.

`tests/documented.py` says how a page marks its blocks. Blocks without a mark are run, a page at a time and in its
order, in a folder where small stand-ins lie at the paths that the pages use.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from distill.pack import main as pack_command
from logitstore.cli import main as logitstore_command
from tests.conftest import write_images
from tests.documented import (
    Command,
    Undocumented,
    check,
    click_command_of,
    commands_in,
    files_need_not_exist,
    pages,
)
from tests.programs import ROOT, fresh_state

HELD_ELSEWHERE = {"docs/commands.md": "tests/logitstore/test_reference.py"}
"""Generated pages, which a test of their own compares with what the generator writes."""
ALL = {page.relative_to(ROOT).as_posix(): commands_in(page) for page in pages()}
RUN = {
    name: found
    for name, commands in ALL.items()
    if (found := [each for each in commands if each.fate == "run"]) and name not in HELD_ELSEWHERE
}


@pytest.mark.parametrize("page", sorted(name for name, commands in ALL.items() if commands))
def test_commands_are_such_as_their_programs_take(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_choices(tmp_path)
    monkeypatch.chdir(tmp_path)
    wrong = []
    with files_need_not_exist():
        for each in ALL[page]:
            if each.fate not in ("checked", "mention"):
                continue
            try:
                check(each.words)
            except Undocumented as error:
                wrong.append(f"{each}\n    {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(RUN))
def test_commands_without_a_mark_run(page: str, scratch: Path) -> None:
    for each in RUN[page]:
        run(each)


def test_pages_that_are_held_elsewhere_are() -> None:
    for page, test in HELD_ELSEWHERE.items():
        assert page in ALL and Path(page).stem in (ROOT / test).read_text()


def make_choices(folder: Path) -> None:
    """What a contraction leaves for `--config-dir`."""
    choices = folder / "runs" / "contract" / "conf" / "student"
    choices.mkdir(parents=True)
    shutil.copy(ROOT / "conf" / "student" / "tiny_vit_micro.yaml", choices / "contracted.yaml")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's scripts and an image folder of 90 images of 3 classes."""
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    write_images(tmp_path / "images", 90)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


def run(documented: Command) -> None:
    """Runs one command line: our own programs inside this process, others by a shell."""
    words = shlex.split(documented.words)
    match words:
        case ["python", "-m", "distill.pack", *rest] | ["distill", "pack", *rest]:
            result = CliRunner().invoke(pack_command, rest)
            code, said = result.exit_code, result.output
        case ["python", "-m", module, *rest] if module.startswith("distill."):
            code, said = run_program(module, rest)
        case ["distill", program, *rest]:
            code, said = run_program(f"distill.{program.replace('-', '_')}", rest)
        case ["python", path, *rest] if path.startswith("scripts/"):
            result = CliRunner().invoke(click_command_of(path), rest)
            code, said = result.exit_code, result.output
        case ["logitstore", *rest]:
            result = CliRunner().invoke(logitstore_command, rest)
            code, said = result.exit_code, result.output
        case _:
            done = subprocess.run(["bash", "-c", documented.words], capture_output=True, text=True, timeout=60)
            code, said = done.returncode, done.stdout + done.stderr
    assert code == 0, f"{documented}\nexit code {code}\n{said}"


def run_program(module: str, words: list[str]) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch, fresh_state():
        patch.setattr(sys, "argv", [module, *words])
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        except SystemExit as stop:
            return int(stop.code or 0), "see what the program printed"
    return 0, ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("python -m distill.train_student optim.lrr=1", "optim.lrr"),
        ("torchrun --nproc_per_node 2 -m distill.train_student student=tiny_vit_6m", "tiny_vit_6m"),
        ("torchrun --nprocs 2 -m distill.train_student", "launcher refuses"),
        ("accelerate launch --num_process_es 2 -m distill.train_student", "launcher refuses"),
        ("python -m distill.train_students", "no program"),
        ("python -m distill.pack a b --no-such-option", "no-such-option"),
        ("distill pack a", "DST|TARGET"),
        ("distill train-student optim.lrr=1", "optim.lrr"),
        ("distill train-students", "no parser is known"),
        ("python scripts/pack.py a b --no-such-option", "no-such-option"),
        ("python scripts/pack.py a", "DST|TARGET"),
        ("python scripts/packing.py a b", "there is no"),
        ("python scripts/prove/weights.py runs --fast", "knows no --fast"),
        ("logitstore look teacher.zarr", "no such command"),
        ("logitstore info teacher.zarr; logitstore show teacher.zarr", "row"),
        ("logitstore plan --samples many --epochs 1", "many"),
        ("pip install 'distill[gpu]'", "gpu"),
        ("./scripts/slowstart.sh", "there is no"),
        ("sbatch --nodes=4 scripts/job.sbatch", "there is no"),
        ("kubectl apply", "no parser is known"),
    ],
)
def test_what_a_program_would_refuse_is_found(line: str, said: str) -> None:
    with pytest.raises(Undocumented, match=said), files_need_not_exist():
        check(line)


def test_blocks_are_read_with_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\nSee `logitstore\ninfo T.zarr`.\n\n"
        "```bash\n# a comment\npython -m distill.evaluate \\\n    table=true  # counts\nls 'a b'\n```\n\n"
        "<!-- checked: trains for hours -->\n```console\n$ logitstore info T.zarr\nviews 3\n```\n\n"
        "<!-- not run: needs a cluster -->\n\n```sh\nsbatch job.sh\n```\n\n```text\nls\n```\n"
    )
    found = [(each.line, each.words, each.fate, each.why) for each in commands_in(page)]
    assert found == [
        (8, "python -m distill.evaluate table=true", "run", ""),
        (10, "ls 'a b'", "run", ""),
        (15, "logitstore info T.zarr", "checked", "trains for hours"),
        (22, "sbatch job.sh", "not run", "needs a cluster"),
        (3, "logitstore info T.zarr", "mention", ""),
    ]


@pytest.mark.parametrize("line", ["python -m distill.evaluate tabel=true", "logitstore info nothing.zarr", "false"])
def test_a_command_that_fails_is_named(line: str, scratch: Path) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:3: "):
        run(Command(page="page.md", line=3, words=line, fate="run"))


def test_links_and_files_named_in_the_pages_exist() -> None:
    missing = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#([^)\s]+))?\)", text):
            path = page.parent / target if target else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                missing.append(f"{page.relative_to(ROOT)}: {target}{'#' if anchor else ''}{anchor}")
        files = re.findall(r"`((?:tests|scripts|distill|models|logitstore|docs)/[\w./-]+)`", text)
        missing += [f"{page.relative_to(ROOT)}: {name}" for name in files if not (ROOT / name).exists()]
    assert not missing, "\n".join(missing)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
