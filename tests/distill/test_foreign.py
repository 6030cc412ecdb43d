"""What the programs are given by others or by mistake: one message, and nothing done."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from distill.errors import DistillError, UsageError
from logitstore import StoreError
from tests.programs import call, student_arguments, teacher_arguments


@pytest.fixture
def run_folder(data_path: Path, tmp_path: Path) -> Path:
    """A stopped run: a configuration, metrics and a checkpoint."""
    from distill.config import TrainStudentConfig
    from distill.config.command import load
    from distill.runs import run_dir

    folder = tmp_path / "run"
    run_dir.prepare(load("train_student", TrainStudentConfig, student_arguments(data_path, folder)))
    (folder / "metrics.jsonl").write_text('{"step": 1, "epoch": 0.1, "loss": 1.0}\n')
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()}


CONFIGS = {
    "empty": b"",
    "list": b"[1, 2]",
    "text": b"hello",
    "binary": bytes(range(256)),
    "not UTF-8": b"data: {path: \xff}",
    "an alias": b"a: &a [x]\nb: *a\n",
    "a tag": b"run: !!python/object/apply:os.system [echo]\n",
    "twice": b"run: {dir: a}\nrun: {dir: b}\n",
    "deep": b"a: " + b"[" * 100 + b"]" * 100,
    "long": b"a: " + b"x" * 200_000,
    "a secret": b"run: {dir: '${oc.env:SECRET}'}\n",
    "a group that is none": b"train: 7\n",
    "an unknown setting": b"train: {colour: red}\n",
    "a wrong type": b"train: {epochs: many}\n",
    "a wrong value": b"train: {batch_size: -1}\n",
    "a number without end": b"train: {epochs: 1e400}\n",
}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("program", ["train_student", "evaluate", "export", "gallery"])
def test_configurations(
    run_folder: Path, data_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, program: str
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    (run_folder / "config.yaml").write_bytes(CONFIGS[kind])
    (run_folder / "student.safetensors").write_bytes(b"x")
    before = files_of(run_folder)
    words = {
        "train_student": student_arguments(data_path, run_folder),
        "evaluate": [f"data.val_path={data_path}", f"run.dir={run_folder}", "data.workers=0"],
        "export": [f"run.dir={run_folder}", "format=safetensors", f"out={tmp_path / 'o.safetensors'}"],
        "gallery": [f"store.path={tmp_path / 'none.zarr'}", f"runs=[{run_folder}]", f"out={tmp_path / 'page.html'}"],
    }[program]
    with pytest.raises((DistillError, StoreError)) as caught:
        call(program, words)
    assert "hunter2" not in str(caught.value) and len(str(caught.value)) < 2000
    assert files_of(run_folder) == before


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "checkpoints", "student.safetensors", "summary.json"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_in_a_run(run_folder: Path, data_path: Path, tmp_path: Path, name: str, kind: str) -> None:
    foreign = tmp_path / "foreign"
    if (run_folder / name).exists():
        (run_folder / name).rename(foreign)
    elif name == "checkpoints":
        foreign.mkdir()
    else:
        foreign.write_text("{}")
    before = foreign.stat().st_mtime_ns
    if kind == "link":
        (run_folder / name).symlink_to(foreign)
    else:
        os.mkfifo(run_folder / name)
    for program, words in {
        "train_student": student_arguments(data_path, run_folder),
        "evaluate": [f"data.val_path={data_path}", f"run.dir={run_folder}", "data.workers=0"],
        "export": [f"run.dir={run_folder}", "format=safetensors", f"out={tmp_path / 'o.safetensors'}"],
    }.items():
        with pytest.raises(DistillError, match=r"is a symbolic link|is a pipe|no regular file"):
            call(program, words)
    assert foreign.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("program", "more"),
    [
        ("save_logits", ["teacher={}"]),
        ("save_logits", ["teacher=null"]),
        ("save_logits", ["teacher=[]"]),
        ("train_student", ["student={}"]),
        ("train_student", ["student=null"]),
        ("train_student", ["data.path=s3://no-such-bucket-here/data", "data.retries=0", "data.timeout=5"]),
        ("train_student", ["store.path=/dev/null"]),
        ("train_student", ["data.path=/dev/null"]),
        ("evaluate", ["data.val_path=/dev/zero", "run.dir=/dev/null"]),
    ],
)
def test_requests_that_make_no_sense(
    data_path: Path, teacher_weights: Path, tmp_path: Path, program: str, more: list[str]
) -> None:
    words = {
        "save_logits": teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr"),
        "train_student": student_arguments(data_path, tmp_path / "run"),
        "evaluate": [],
    }[program]
    keys = {word.partition("=")[0] for word in more}
    with pytest.raises((DistillError, StoreError, UsageError)) as caught:
        call(program, [word for word in words if word.partition("=")[0] not in keys] + more)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_all_files_have_the_permissions_of_the_umask(
    data_path: Path, teacher_weights: Path, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        call("save_logits", teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr"))
        more = [f"store.path={tmp_path / 't.zarr'}", f"data.val_path={data_path}", "train.epochs=1", "train.steps=2"]
        call("train_student", student_arguments(data_path, tmp_path / "run", *more))
        call("export", [f"run.dir={tmp_path / 'run'}", "format=safetensors", f"out={tmp_path / 'a.safetensors'}"])
        call("gallery", [f"store.path={tmp_path / 't.zarr'}", f"out={tmp_path / 'page.html'}"])
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    wrong = {
        str(path): oct(path.stat().st_mode) for path in files if stat.S_IMODE(path.stat().st_mode) != 0o666 & ~umask
    }
    assert not wrong
