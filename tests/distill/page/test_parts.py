"""The small rooms of the page: coverage, choice of rows, classes, answers, curves, charts, pictures."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import logitstore
from distill.config import GalleryConfig, ShowConfig, StoreConfig
from distill.errors import DistillError, UsageError
from distill.page import charts, curves, document, images
from distill.page.classes import classes_of
from distill.page.coverage import MOST_COLUMNS, MOST_LINES, coverage
from distill.page.predictions import answer
from distill.page.row_choice import check_pick, choose, draw_rows
from distill.page.scan import BINS, Spread, scan
from tests.distill.page.conftest import MakeStore


def spec(**changes: object) -> logitstore.StoreSpec:
    values = {"num_samples": 100, "num_epochs": 2, "num_classes": 8, "topk": 2, "rows_per_block": 32}
    return logitstore.StoreSpec(**values | changes)  # type: ignore[arg-type]


# Coverage


def test_every_block_is_in_one_cell_of_its_state() -> None:
    done = np.array([[1, 1, 0, 1], [0, 1, 1, 0]], bool)
    read = np.array([[1, 0, 0, 1], [0, 0, 0, 0]], bool)
    damaged = np.array([[0, 0, 0, 1], [0, 0, 0, 0]], bool)
    made = coverage(done, read=read, damaged=damaged)
    lines = [["?"] * 4, ["?"] * 4]
    for cell in made.cells:
        for column in range(cell.column, cell.column + cell.width):
            assert lines[cell.line][column] == "?"
            lines[cell.line][column] = cell.state
    assert lines == [["read", "done", "missing", "damaged"], ["missing", "done", "done", "missing"]]
    assert made.says == "5 of 8 blocks are written, 3 are missing; 2 read for this page, 1 damaged"
    assert made.states == ("read", "done", "missing", "damaged")
    assert [cell.says for cell in made.cells][-2] == "epoch 1, blocks 1 to 2: written"


def test_the_map_of_a_large_store_is_small_and_hides_no_damage() -> None:
    done = np.ones((90, 3467), bool)
    damaged = np.zeros_like(done)
    damaged[77, 1234] = done[5, 3466] = True
    done[5, 100] = False
    made = coverage(done, read=damaged, damaged=damaged)
    assert made.columns <= MOST_COLUMNS and made.lines <= MOST_LINES and made.reduced
    assert [cell.state for cell in made.cells].count("damaged") == 1
    assert [cell.state for cell in made.cells].count("partly") == 1
    assert sum(cell.width for cell in made.cells) == made.columns * made.lines


# Choice


@given(done=st.lists(st.booleans(), min_size=4, max_size=4), count=st.integers(0, 120), seed=st.integers(0, 9))
def test_drawn_rows_lie_in_blocks_that_are_there(done: list[bool], count: int, seed: int) -> None:
    rows = draw_rows(spec(), np.array([done]), count=count, seed=seed)
    there = [row for row in range(100) if done[row // 32]]
    assert len(rows) == len(set(rows)) == min(count, len(there))
    assert set(rows) <= set(there) and list(rows) == sorted(rows)


def test_rows_come_with_the_reasons_they_are_shown_for(make_store: MakeStore) -> None:
    store = make_store()
    found = scan(store, classes_of(store.spec), blocks=None, epochs=8, most=3, progress=lambda count: None)
    config = ShowConfig(rows=50, extremes=3, pick=[7, 3])
    chosen = choose(config, store.spec, store.done(), found)
    assert list(chosen)[:2] == [7, 3] and "picked" in chosen[7]
    assert {row for row, kinds in chosen.items() if "disputed" in kinds} == set(found.disputed.rows)
    assert len(chosen) == 50 and all("random" in kinds for kinds in chosen.values())
    with pytest.raises(UsageError, match=r"rows 0 to 49, not 50"):
        check_pick(ShowConfig(pick=[3, 50]), store.spec)


# Classes


def test_labels_are_classes_by_number_by_id_or_by_name() -> None:
    labels = np.array([0, 1, -1, 9], np.int32)
    assert classes_of(spec()).class_of(labels).tolist() == [0, 1, -1, -1]
    by_id = classes_of(spec(num_classes=1000, data={"class_names": ["n01443537", "n01440764"]}))
    assert by_id.class_of(labels).tolist() == [1, 0, -1, -1]
    assert by_id.label_name(1) == "tench, Tinca tinca" and by_id.name(1) == "goldfish, Carassius auratus"
    names = [f"name {n}" for n in range(8)]
    by_name = classes_of(spec(teacher={"class_names": names}, data={"class_names": ["name 5", "name 2"]}))
    assert by_name.class_of(labels).tolist() == [5, 2, -1, -1]
    other = classes_of(spec(teacher={"class_names": names}, data={"class_names": ["name 5", "else"]}))
    assert other.class_of_label is None and other.class_of(labels).tolist() == [-1] * 4


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    bare = classes_of(spec())
    assert bare.name(3) == "class 3" and bare.label_name(3) == "label 3"
    assert classes_of(spec(num_classes=21841)).name(0) != "class 0"


# Answers


def test_bars_and_tail_make_up_the_whole(make_store: MakeStore) -> None:
    store = make_store()
    classes = classes_of(store.spec)
    for row in range(10):
        view = store.read(epoch=0, rows=row)
        label = int(view.indices[0][3])
        said = answer(view, store.spec, classes, label=label, most=2)
        assert said is not None
        assert sum(bar.probability for bar in said.bars) == pytest.approx(1, abs=1e-5)
        assert [bar.kind for bar in said.bars] == ["kept", "kept", "kept", "others", "tail"]
        assert [bar.is_label for bar in said.bars] == [False, False, True, False, False]
        assert said.kept_mass + said.tail_mass == pytest.approx(1, abs=1e-5)
        assert said.label_probability == pytest.approx(float(view.dense()[0, label]), rel=1e-4)
        missing = next(n for n in range(8) if n not in view.indices[0])
        unkept = answer(view, store.spec, classes, label=missing, most=2)
        assert unkept is not None and f"name {missing}, is not among them" in unkept.note


def test_drawn_classes_are_shown_as_such() -> None:
    sampled = spec(selection="sample", encoding="counts", draws=5, topk=3)
    view = logitstore.Rows(
        seeds=np.zeros(1, np.uint64), indices=np.array([[4, 1, 0]]),
        logprobs=np.log(np.array([[0.8, 0.2, 1e-30]], np.float32)), tail=np.full(1, -np.inf, np.float32),
        num_classes=8, drawn=np.array([[True, True, False]]),
    )  # fmt: skip
    view.logprobs[0, 2] = -np.inf
    said = answer(view, sampled, classes_of(sampled), label=-1, most=5)
    assert said is not None
    assert [(bar.kind, bar.note) for bar in said.bars[:2]] == [("drawn", "drawn 4 x"), ("drawn", "drawn 1 x")]
    assert said.bars[2].kind == "tail" and said.bars[2].probability == 0


# Curves and charts


def write_run(folder: Path, lines: list[str], *, finished: bool = True) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text("data:\n  path: d\nrun:\n  dir: r\nstudent:\n  name: tiny_vit_5m\n")
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    if finished:
        (folder / "summary.json").write_text("{}")
    return folder


def test_a_run_is_read_even_while_it_goes_on(tmp_path: Path) -> None:
    lines = [json.dumps({"step": n, "epoch": n / 10, "loss": 5 - n / 10, "agreement": n / 20}) for n in range(1, 5)]
    run = curves.read_run(str(write_run(tmp_path / "a", [*lines, '{"step": 5, "ep'], finished=False)))
    assert not run.finished and run.student == "tiny_vit_5m" and run.learned_from == "labels"
    assert run.lines["loss"] == ((0.1, 4.9), (0.2, 4.8), (0.3, 4.7), (0.4, 4.6))
    assert run.lines["agreement"][-1] == (0.4, 20.0)
    assert run.facts[0] == ("steps", "4 so far")
    drawn = charts.panels([run])
    assert [panel.title for panel in drawn] == ["Loss", curves.PANELS["agreement"][0]]
    assert len(drawn[0].lines[0].points.split()) == 4


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"not the folder of a run"):
        curves.read_run(str(tmp_path))
    with pytest.raises(DistillError, match=r"no line of metrics yet"):
        curves.read_run(str(write_run(tmp_path / "empty", [])))
    with pytest.raises(DistillError, match=r"line 1, is not valid JSON"):
        curves.read_run(str(write_run(tmp_path / "bad", ["{", '{"step": 1, "epoch": 1, "loss": 1}'])))
    (tmp_path / "bad" / "metrics.jsonl").unlink()
    with pytest.raises(DistillError, match=r"has no metrics.jsonl"):
        curves.read_run(str(tmp_path / "bad"))


def test_thinned_points_keep_mean_and_end() -> None:
    points = [(float(n), float(n % 7)) for n in range(1234)]
    thin = curves.thinned(points)
    assert len(thin) == curves.MOST_POINTS and thin[-1][0] == 1233
    sizes = np.diff([0, *(x + 1 for x, _ in thin)])
    assert np.dot(sizes, [y for _, y in thin]) == pytest.approx(sum(y for _, y in points))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
@example([4.8e-52, 8.1e-93])
@example([5e-324])
def test_ticks_are_few_even_and_reach_past_the_values(values: list[float]) -> None:
    ticks = charts.nice_ticks(values)
    assert 2 <= len(ticks) <= 7
    gaps = np.diff(ticks)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-6)
    slack = 1e-6 * gaps[0] + 1e-9 * max(map(abs, ticks))
    assert ticks[0] <= min(values) + slack and ticks[-1] >= max(values) - slack


def test_a_histogram_of_nothing_is_no_error() -> None:
    assert charts.histogram(Spread(1.0), title="Entropy").bars == ()
    spread = Spread(2.0)
    spread.add(np.array([0.0, 2.0, 2.0]))
    made = charts.histogram(spread, title="Entropy", unit="nats")
    assert [(bar.x, bar.height) for bar in made.bars] == [(0, 50), (pytest.approx(100 - 100 / BINS), 100)]
    assert "1.93 to 2 nats: 2 views (66.7%)" in made.says and made.ticks == ("0", "0.5", "1", "1.5", "2")


# Pictures and document


def opened(picture: images.Picture) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(picture.address.partition(",")[2]))).convert("RGB"))


def test_lossless_pictures_hold_every_pixel() -> None:
    random = np.random.default_rng(0)
    for shape in ((224, 224), (1, 1), (7, 31)):
        pixels = random.integers(0, 256, (*shape, 3), np.uint8)
        np.testing.assert_array_equal(opened(images.lossless(pixels, says="noise")), pixels)


def test_originals_are_reduced_to_the_longest_side() -> None:
    pixels = np.zeros((400, 100, 3), np.uint8)
    assert opened(images.reduced(pixels, longest=200, says="")).shape == (200, 50, 3)
    small = images.reduced(pixels[:28, :28], longest=200, says="")
    assert small.address.startswith("data:image/webp;") and small.pixelated


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (1, "100 %"),
        (0.9996, "100 %"),
        (0.9994, "99.9 %"),
        (0.051, "5.1 %"),
        (0.0042, "0.42 %"),
        (1e-6, "<0.01 %"),
        (0, "0 %"),
    ],
)
def test_percent(probability: float, text: str) -> None:
    assert document.percent(probability) == text


def test_only_a_page_is_replaced(tmp_path: Path) -> None:
    other = tmp_path / "notes.html"
    other.write_text("<p>mine</p>")
    with pytest.raises(DistillError, match=r"is no page of distill.gallery"):
        document.check_target(str(other))
    with pytest.raises(DistillError, match=r"in a folder that exists"):
        document.check_target(str(tmp_path / "no" / "gallery.html"))
    with pytest.raises(DistillError, match=r"in a folder that exists"):
        document.check_target(str(tmp_path))


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match=r"show.pictures=png"):
        ShowConfig(pictures="png")
    with pytest.raises(UsageError, match=r"show.pick=-1"):
        ShowConfig(pick=[3, -1])
    with pytest.raises(UsageError, match=r"out is not set"):
        GalleryConfig(store=StoreConfig(path="s"))
    with pytest.raises(UsageError, match=r"named twice"):
        GalleryConfig(out="x", store=StoreConfig(path="s"), runs=["a", "a/"])
