"""The results at small scale: every question is answered, kills lose nothing, and arms differ in what they say."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

import logitstore
from distill import config, train_student
from distill.config import command
from distill.errors import DistillError
from distill.runs.metric_log import read_metrics
from scripts.studies.reproduce_small import main as reproduce_small
from scripts.studies.reproduced import images, questions, scoring, stores, tables
from scripts.studies.reproduced.settings import VIEWS, Answers, Store, Training, fingerprint, teacher_arguments
from scripts.studies.reproduced.training import arguments_of, run_path, train_cell
from tests.programs import ROOT, break_off, call, fresh_state

SCRIPT = [sys.executable, str(ROOT / "scripts" / "studies" / "reproduce_small.py")]
TINY = questions.TINY
BASE = questions.store_of(TINY)
EXACT = replace(BASE, topk=10, encoding="float16")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, the teacher's passes and some stores, as the first stages make them."""
    folder = tmp_path_factory.mktemp("reproduced")
    judged = questions.training(TINY, 0).judged
    for data in (BASE.of.data, judged):
        images.make_data(folder, data)
    whole = replace(BASE.of, view="whole", epochs=1)
    with fresh_state():
        for of in (BASE.of, whole):
            stores.run_pass(folder, of)
        scoring.save_outputs(folder, Answers(teacher="fashion", judged=judged))
    for store in (BASE, EXACT, replace(BASE, unmatched=True), replace(BASE, of=whole, view="mild")):
        stores.make_store(folder, store)
    return folder


def trained(work: Path, cell: Training) -> tuple[dict[str, float], list[float]]:
    """Scores, and the loss at the end of every interval."""
    with fresh_state():
        scores = train_cell(work, cell)["scores"]
    return scores, [line["loss"] for line in read_metrics(run_path(work, cell) / "metrics.jsonl") if "lr" in line]


def opened(work: Path, store: Store) -> logitstore.Store:
    return logitstore.open(stores.store_path(work, store))


@pytest.mark.slow
def test_killed_and_started_again_every_question_is_answered(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    shutil.copy(ROOT / "docs" / "appendix" / "results.md", page)
    command_line = [*SCRIPT, str(tmp_path), "--tiny", "--first", "2", "--seeds", "1", "--docs", str(page)]
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until = time.monotonic() + 300
    while len(list(tmp_path.glob("cells/*.json"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert workers
    assert not psutil.wait_procs(workers, timeout=10)[1], "the trainings outlive the command"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")}

    done = subprocess.run(command_line, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished cells were trained again"
    results = json.loads((tmp_path / "results.json").read_text())
    assert [question["key"] for question in results["questions"]] == [q.key for q in questions.QUESTIONS]
    text = (tmp_path / "tables.md").read_text()
    for question in results["questions"]:
        assert len(question["arms"]) == 2
        assert all(np.isfinite(arm[question["metric"]]).all() for arm in question["arms"])
        assert f"({question['key']}) {question['title']}" in text
        assert (tmp_path / f"{question['key']}.png").stat().st_size > 5000
        assert page.read_text().count(f"(results/{question['key']}.png)") == 1
        assert (page.parent / "results" / f"{question['key']}.png").exists()
        assert question["arms"][1]["label"] in page.read_text()
    assert results["costs"][0]["ratio"] > 0
    cells = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")}
    again = CliRunner().invoke(reproduce_small, [*command_line[len(SCRIPT) :], "--dry-run"])
    assert "\n0 + 0 minutes of one core left" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")} == cells


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = questions.training(TINY, 0, BASE)
    scores, losses = trained(work, cell)
    for name in ("data", "stores", "answers"):
        (tmp_path / name).symlink_to(work / name)
    break_off(arguments_of(tmp_path, cell), after=2, monkeypatch=monkeypatch)
    assert not (run_path(tmp_path, cell) / "student.safetensors").exists()
    assert trained(tmp_path, cell) == (scores, losses)


def test_online_is_the_store_with_all_classes(work: Path) -> None:
    """The same views, order and loss: only float16 differs."""
    _, stored = trained(work, questions.training(TINY, 1, EXACT))
    _, online = trained(work, replace(questions.training(TINY, 1, EXACT), online="fashion"))
    _, few = trained(work, questions.training(TINY, 1, BASE))
    np.testing.assert_allclose(online, stored, rtol=1e-4)
    assert abs(few[0] - online[0]) > 2 * abs(stored[0] - online[0])


def test_unmatched_views_have_the_same_outputs_and_are_refused_by_default(work: Path) -> None:
    unmatched = replace(BASE, unmatched=True)
    one, other = (opened(work, store).read(epoch=0, rows=slice(None)) for store in (BASE, unmatched))
    np.testing.assert_array_equal(one.logprobs, other.logprobs)
    assert not np.intersect1d(one.seeds, other.seeds).size
    cell = questions.training(TINY, 2, unmatched)
    arguments = [each for each in arguments_of(work, cell) if not each.startswith("store.check")]
    with fresh_state(), pytest.raises(DistillError, match="do not come out here as the teacher saw them"):
        train_student.main(command.load("train_student", config.TrainStudentConfig, arguments))
    assert np.isfinite(trained(work, cell)[1]).all()


def test_outputs_of_whole_images_go_with_the_replayed_views(work: Path) -> None:
    whole = opened(work, replace(BASE, of=replace(BASE.of, view="whole", epochs=1), view="mild"))
    crops = opened(work, BASE)
    first, second = (whole.read(epoch=epoch, rows=slice(None)) for epoch in (0, 1))
    np.testing.assert_array_equal(first.logprobs, second.logprobs)
    assert whole.spec.view == crops.spec.view
    for epoch, rows in enumerate((first, second)):
        np.testing.assert_array_equal(rows.seeds, crops.read(epoch=epoch, rows=slice(None)).seeds)
    assert not np.array_equal(first.logprobs, crops.read(epoch=0, rows=slice(None)).logprobs)


def test_a_store_is_what_the_teacher_pass_itself_writes(work: Path, tmp_path: Path) -> None:
    """The outputs were in float16 in between: now and then a code at the edge of a step is the next one."""
    call("save_logits", [
        f"data.path={images.data_path(work, BASE.of.data)}", *teacher_arguments("fashion"), *VIEWS["mild"],
        f"store.path={tmp_path / 't.zarr'}", "store.topk=3", f"store.epochs={BASE.epochs}", "batch_size=64",
        "data.workers=0", "compute.threads=1",
    ])  # fmt: skip
    written, made = logitstore.open(tmp_path / "t.zarr"), opened(work, BASE)
    assert not logitstore.differences(written.spec, made.spec)
    for epoch in range(BASE.epochs):
        one, other = (store.read(epoch=epoch, rows=slice(None)) for store in (written, made))
        np.testing.assert_array_equal(one.seeds, other.seeds)
        assert written.proof(epoch, 0) == made.proof(epoch, 0)
        np.testing.assert_allclose(one.dense(), other.dense(), rtol=0.3)
        assert (one.dense() == other.dense()).mean() > 0.9


def test_data_packed_class_after_class_is_in_that_order(tmp_path: Path) -> None:
    data = questions.data_of(TINY, shuffled=False)
    images.make_data(tmp_path, data)
    labels = np.load(images.data_path(tmp_path, data) / "catalog" / "labels.npy")
    assert (np.diff(labels) >= 0).all()


def test_every_changed_setting_is_another_cell() -> None:
    cell = questions.training(questions.Scale(), 0, questions.store_of(questions.Scale()))
    assert fingerprint(cell) == fingerprint(replace(cell))
    others: dict[str, Any] = {
        "student": "0.16 M", "data": BASE.of.data, "judged": BASE.of.data, "store": BASE, "online": "fashion",
        "tail": "bucket", "view": "strong",
    }  # fmt: skip
    for field in fields(Training):
        value = others.get(field.name) or getattr(cell, field.name) + 1
        assert fingerprint(replace(cell, **{field.name: value})) != fingerprint(cell), field.name


@pytest.mark.parametrize("question", questions.QUESTIONS, ids=lambda question: question.key)
def test_arms_are_distinct_and_have_one_to_compare_with(question: questions.Question) -> None:
    arms = question.arms(questions.Scale(), 0)
    assert len({label for label, _ in arms}) == len({cell for _, cell in arms}) == len(arms)
    assert any(label.endswith(question.against) for label, _ in arms)
    assert {cell.seed for _, cell in question.arms(questions.Scale(), 5)} == {5}


def test_differences_are_taken_seed_by_seed() -> None:
    arms = [
        {"label": "x, labels", "top1": [80.0, 82.0], "cpu_seconds": [1.0], "peak_mb": [1.0], "store": None},
        {"label": "x, distilled", "top1": [81.0, 83.0], "cpu_seconds": [1.0], "peak_mb": [1.0], "store": None},
    ]
    table = tables.table({"key": "a", "title": "t", "against": ", labels", "metric": "top1", "arms": arms})
    assert "| x, distilled | 82.00 ± 1.41 | +1.00 ± 0.00 |" in table


def test_an_unknown_question_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(reproduce_small, [str(tmp_path), "--only", "z"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --only z: choose from a, b, c")
    assert not list(tmp_path.iterdir())
