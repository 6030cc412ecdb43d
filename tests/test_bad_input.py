"""Bad input: one clear message on stderr that says what, where and what to do; the right exit code; no traceback."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import distill.data.view_reader
import distill.train_student
import logitstore
from distill import models
from distill.config.command import Program, run_program
from distill.data.catalog import open_catalog
from distill.data.packing.pack import pack
from distill.views import render
from tests.conftest import write_images
from tests.programs import ROOT, SCHEMAS, call, fresh_state, student_arguments, teacher_arguments


def fails(capsys: pytest.CaptureFixture[str], program: str, words: list[str], *, code: int = 1) -> str:
    """Runs a program to its failure and returns the message."""
    module = importlib.import_module(f"distill.{program}")
    with fresh_state(), pytest.raises(SystemExit) as stop:
        run_program(module.PROGRAM, words)
    err = capsys.readouterr().err
    assert stop.value.code == code, err
    messages = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, err
    assert "Traceback" not in err
    return err[err.index("error: ") :]


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "t.zarr"
    call("save_logits", teacher_arguments(data_path, teacher_weights, path))
    return path


def test_a_key_that_nobody_declared_is_refused_by_name(
    data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = student_arguments(data_path, tmp_path / "run")
    for word in ("+optim.lrr=1", "optim.lrr=1"):
        assert "optim.lrr" in fails(capsys, "train_student", [*words, word], code=2)
    assert "no-such-model" in fails(capsys, "train_student", [*words, "student=no-such-model"], code=2)
    assert "optim.lr" in fails(capsys, "train_student", [*words, "optim.lr=fast"], code=2)
    assert "compute.precision=half" in fails(capsys, "train_student", [*words, "compute.precision=half"], code=2)
    assert "'quickly'" in fails(capsys, "train_student", [*words, "quickly"], code=2)
    assert "train.batch_size" in fails(capsys, "train_student", [*words, "train.batch_size=200"], code=2)
    assert not (tmp_path / "run").exists()


def test_a_typo_in_a_yaml_file_is_refused_by_name(
    data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "mine.yaml").write_text("name: tiny_vit_5m\ndrop_pth: 0.1\n")
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "mine.yaml").write_text("crop: random\nscael: [0.5, 1.0]\n")
    words = [*student_arguments(data_path, tmp_path / "run"), "--config-dir", str(tmp_path)]
    words = [word for word in words if not word.startswith("student")]
    assert "student.drop_pth" in fails(capsys, "train_student", [*words, "student=mine"], code=2)
    assert "scael" in fails(capsys, "train_student", [*words, "view=mine"], code=2)
    assert "no such folder" in fails(capsys, "train_student", [*words, "--config-dir=/nowhere"], code=2)


def test_what_must_be_named_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert "data.path is not set" in fails(capsys, "save_logits", ["store.path=x"], code=2)
    assert "store.path is not set" in fails(capsys, "verify_logits", ["data.path=x"], code=2)
    assert "out is not set" in fails(capsys, "gallery", ["store.path=x"], code=2)
    assert "run.dir is not set" in fails(capsys, "train_student", ["data.path=x"], code=2)
    assert "data.val_path is not set" in fails(capsys, "evaluate", ["run.dir=x"], code=2)
    assert "either run.dir" in fails(capsys, "evaluate", ["data.val_path=x"], code=2)


def test_stores_that_are_not_there_or_not_stores(
    data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = student_arguments(data_path, tmp_path / "run")
    missing = fails(capsys, "train_student", [*words, f"store.path={tmp_path / 'none.zarr'}"])
    assert "none.zarr" in missing
    (tmp_path / "plain").mkdir()
    assert "plain" in fails(capsys, "train_student", [*words, f"store.path={tmp_path / 'plain'}"])
    assert not (tmp_path / "run").exists()


def test_a_store_of_a_newer_format_is_refused(
    store_path: Path, data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = tmp_path / "newer.zarr"
    shutil.copytree(store_path, newer)
    head = newer / "zarr.json"
    text = head.read_text()
    version = f'"format_version": {logitstore.FORMAT_VERSION}'
    assert text.count(version) == 1
    head.write_text(text.replace(version, '"format_version": 99'))
    words = student_arguments(data_path, tmp_path / "run", f"store.path={newer}")
    message = fails(capsys, "train_student", words)
    assert "99" in message
    assert "newer.zarr" in message


def test_data_that_the_teacher_did_not_see_is_refused(
    store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(write_images(tmp_path / "images", 30), tmp_path / "other")
    words = student_arguments(tmp_path / "other", tmp_path / "run", f"store.path={store_path}")
    message = fails(capsys, "train_student", words)
    assert "other data" in message
    assert "fingerprint" in message


def test_weights_with_another_class_count_are_refused(
    data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "five.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0", num_classes=5).state_dict(), weights)
    words = [f"data.path={data_path}", f"store.path={tmp_path / 't.zarr'}", "teacher=timm"]
    words += ["teacher.name=tf_efficientnet_lite0", f"teacher.weights={weights}", "teacher.num_classes=1000"]
    message = fails(capsys, "save_logits", words)
    assert "five.pth" in message
    assert " 5 " in message
    assert "1000" in message
    assert not (tmp_path / "t.zarr").exists()
    words[-2] = f"teacher.weights={tmp_path / 'none.pth'}"
    assert "none.pth" in fails(capsys, "save_logits", words)


def test_more_classes_kept_than_there_are_is_refused(
    data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr", "store.topk=4")
    message = fails(capsys, "save_logits", words, code=2)
    assert "store.topk=4" in message
    assert "3 classes" in message


def damaged_copy(data_path: Path, target: Path, rows: tuple[int, ...]) -> Path:
    """The packed data with the second half of some rows' images cut to zeros."""
    shutil.copytree(data_path, target)
    catalog = open_catalog(target)
    for row in rows:
        tar = target / catalog.shards[catalog.shard_of(row)].name
        data = bytearray(tar.read_bytes())
        begin, size = int(catalog.offsets[row]), int(catalog.sizes[row])
        data[begin + size // 2 : begin + size] = bytes(size - size // 2)
        tar.write_bytes(data)
    return target


def test_a_damaged_image_stops_the_pass_or_is_left_out_on_record(
    data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = damaged_copy(data_path, tmp_path / "data", (7, 90))
    store = tmp_path / "t.zarr"
    words = teacher_arguments(damaged, teacher_weights, store, "data.workers=1")
    message = fails(capsys, "save_logits", words)
    assert "row 7 " in message
    assert "shard-000000.tar" in message
    assert "data.damaged=skip" in message

    call("save_logits", [*words, "data.damaged=skip"])
    assert "4 damaged images were left out" in capsys.readouterr().out
    assert len((tmp_path / "t.zarr.damaged.jsonl.rank0").read_text().splitlines()) >= 4
    assert logitstore.check(store).faults == ()
    rows = logitstore.open(store).read(epoch=1, rows=[6, 7, 90])
    assert (rows.logprobs[1:] == float("-inf")).all()
    np.testing.assert_allclose(rows.dense()[1:], 1 / 3, rtol=1e-6)
    assert (rows.logprobs[0] > float("-inf")).any()

    words = student_arguments(damaged, tmp_path / "run", f"store.path={store}", "train.batch_size=15")
    assert "row " in fails(capsys, "train_student", words)
    call("train_student", [*words, "data.damaged=skip"])
    assert "4 damaged images were left out" in capsys.readouterr().out


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small file system needs more rights than the tests have")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_is_reported_and_the_pass_resumable_when_there_is_room(
    data_path: Path, teacher_weights: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = teacher_arguments(data_path, teacher_weights, small_disk / "t.zarr", "store.epochs=40")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(4_300_000))
    message = fails(capsys, "save_logits", words)
    assert "full" in message
    assert "t.zarr" in message
    done = logitstore.open(small_disk / "t.zarr").done().sum()
    assert 0 < done < 120
    filler.unlink()
    call("save_logits", words)
    assert f"{120 - done} of 120 blocks to do" in capsys.readouterr().out
    assert logitstore.check(small_disk / "t.zarr").faults == ()


def test_a_second_writer_is_refused_while_the_first_works(
    data_path: Path, teacher_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "t.zarr"
    words = teacher_arguments(data_path, teacher_weights, store)
    code = "import sys, logitstore; w = logitstore.writer(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    call("save_logits", words)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "held\n"
        message = fails(capsys, "save_logits", words)
        other.stdin.close()
    assert str(other.pid) in message
    call("save_logits", words)


def test_evaluation_data_of_other_classes_is_refused(
    store_path: Path, data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", 30)
    shutil.rmtree(images / "cup")
    pack(images, tmp_path / "two")
    words = student_arguments(
        data_path, tmp_path / "run", f"store.path={store_path}", f"data.val_path={tmp_path / 'two'}"
    )
    message = fails(capsys, "train_student", words)
    assert "2 classes and the model 3" in message and "student.init_classes=new" in message
    assert "not the folder of a run" in fails(
        capsys, "evaluate", [f"data.val_path={data_path}", f"run.dir={tmp_path / 'none'}"]
    )


def test_views_that_do_not_replay_stop_the_student_unless_allowed(
    store_path: Path, data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store_path}", "train.steps=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill.data.view_reader, "render", lambda *args, **kwargs: render(*args, **kwargs) ^ 1)
        message = fails(capsys, "train_student", words)
        assert "as the teacher saw them" in message
        assert "store.check=warn" in message
        call("train_student", [*words, "store.check=warn"])
    assert "warning: " in capsys.readouterr().out


def test_programs_explain_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    for program in SCHEMAS:
        module = importlib.import_module(f"distill.{program}")
        with pytest.raises(SystemExit) as stop:
            run_program(module.PROGRAM, ["--help"])
        out = capsys.readouterr().out
        assert stop.value.code == 0
        assert f"python -m distill.{program} " in out
        assert "--print-config" in out


def test_the_configuration_can_be_printed(data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*student_arguments(data_path, tmp_path / "run"), "--print-config"]
    run_program(distill.train_student.PROGRAM, words)
    assert "batch_size: 16" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_models_errors_reach_the_user(data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = student_arguments(data_path, tmp_path / "run", "student.dims=[8,16]")
    assert "dims" in fails(capsys, "train_student", words)
    assert issubclass(models.WeightsError, Exception)


def test_whoever_interrupts_a_pass_is_told_that_it_resumable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(config: object) -> None:
        raise KeyboardInterrupt

    for program, resumable in (("train_student", True), ("save_logits", True), ("evaluate", False)):
        words = {"evaluate": ["table=true"], "save_logits": ["data.path=x", "store.path=y"]}
        program_of = Program(interrupted, program, schema=SCHEMAS[program], about="")
        with pytest.raises(SystemExit) as stop:
            run_program(program_of, words.get(program, ["data.path=x", "run.dir=y"]))
        assert stop.value.code == 130
        assert ("the same command resumes" in capsys.readouterr().err) == resumable
