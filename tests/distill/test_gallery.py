"""`distill.gallery`: its page holds what is in the store, and says what cannot be shown."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import logitstore
from distill.data.catalog import Catalog
from distill.data.packing.pack import pack
from distill.errors import DistillError, UsageError
from distill.views import pixel_digest
from logitstore.tools.import_tinyvit import import_tinyvit
from tests.conftest import write_images
from tests.distill.page.conftest import damage, random_targets, write_run
from tests.distill.page.parsed_page import ParsedPage
from tests.programs import ROOT, call, student_arguments, teacher_arguments


def gallery(folder: Path, store: object, *settings: str, data: Path | None = None) -> ParsedPage:
    out = folder / "gallery.html"
    more = [f"data.path={data}"] if data else []
    call("gallery", [f"store.path={store}", f"out={out}", "show.rows=6", "show.extremes=2", *more, *settings])
    return ParsedPage(out.read_text())


@pytest.fixture(scope="module")
def store_path(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery")
    call("save_logits", teacher_arguments(data_path, teacher_weights, folder / "t.zarr"), views=folder / "seen")
    return folder / "t.zarr"


@pytest.fixture
def copied(store_path: Path, tmp_path: Path) -> Path:
    """A store to be damaged."""
    shutil.copytree(store_path, tmp_path / "t.zarr")
    return tmp_path / "t.zarr"


def remade(store_path: Path, catalog: Catalog, target: Path, **changes: object) -> Path:
    """The same targets under another spec."""
    old = logitstore.open(store_path)
    spec = replace(old.spec, **changes)  # type: ignore[arg-type]
    logitstore.create(target, spec, keys=catalog.key_hashes(), labels=np.asarray(catalog.labels))
    with logitstore.writer(target) as writer:
        for epoch in range(spec.num_epochs):
            for block in range(spec.num_blocks):
                rows = old.read(epoch=epoch, rows=spec.block_rows(block))
                writer.write(
                    epoch, block, seeds=rows.seeds, indices=rows.indices, logprobs=rows.logprobs, tail=rows.tail,
                    proof=old.proof(epoch, block),
                )  # fmt: skip
    return target


def test_views_in_the_page_are_those_that_the_teacher_saw(store_path: Path, data_path: Path, tmp_path: Path) -> None:
    page = gallery(tmp_path, store_path, "show.epochs=2", "show.pick=[0,149]", data=data_path)
    lines = (line.split() for line in (store_path.parent / "seen.rank0").read_text().splitlines())
    seen = {(int(epoch), int(row)): int(digest, 16) for epoch, row, digest in lines}
    views = page.views()
    assert len(views) >= 16 and {(0, 0), (1, 0), (0, 149), (1, 149)} <= set(views)
    assert {at: pixel_digest(pixels) for at, pixels in views.items()} == {at: seen[at] for at in views}
    assert "are those that the teacher saw" in page.visible


def test_the_page_says_what_is_stored(store_path: Path, data_path: Path, catalog: Catalog, tmp_path: Path) -> None:
    page = gallery(tmp_path, store_path, "show.pick=[12]", data=data_path)
    store = logitstore.open(store_path)
    assert "6 of 6 blocks are written; all of them read for this page, none damaged" in page.visible
    assert catalog.fingerprint in page.visible and catalog.key(12) in page.visible
    rows = store.read(epoch=1, rows=12)
    for index, logprob in zip(rows.indices[0], rows.logprobs[0], strict=True):
        probability = 100 * float(np.exp(logprob))
        shown = f"{probability:.1f} %" if 1 <= probability < 99.95 else "%"
        assert f"{catalog.class_names[index]} " in page.visible and shown in page.visible
    kinds = [set(row["data-kinds"].split()) for row in page.rows()]
    assert page.rows()[0]["id"] == "row-12" and "picked" in kinds[0]
    for kind, number in {"hardest": 2, "disagreement": 2, "confident": 2, "random": 6}.items():
        assert sum(kind in each for each in kinds) == number, kind
    assert len({row["id"] for row in page.rows()}) == len(page.rows())


def test_the_page_is_made_anew_and_the_same(store_path: Path, data_path: Path, tmp_path: Path) -> None:
    first, second = (gallery(tmp_path, store_path, data=data_path).text for _ in range(2))
    assert first == second
    assert not list(tmp_path.glob("*.tmp"))


def test_jpegs_are_smaller_and_another_size_is_another_size(store_path: Path, data_path: Path, tmp_path: Path) -> None:
    page = gallery(tmp_path, store_path, "show.pictures=jpeg", "show.size=96", data=data_path)
    assert {pixels.shape for pixels in page.views().values()} == {(96, 96, 3)}
    assert "data:image/jpeg" in page.text and "close to the pixels" in page.visible
    exact = gallery(tmp_path, store_path, "show.size=96", data=data_path)
    assert len(page.text) < len(exact.text)


def test_mixed_views_name_their_partners(data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    words = ("view=randaugment_mix", "view.mix.group_size=16", "store.epochs=1")
    call(
        "save_logits",
        teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr", *words),
        views=tmp_path / "seen",
    )
    page = gallery(tmp_path, tmp_path / "t.zarr", data=data_path)
    seen = dict(line.split()[1:] for line in (tmp_path / "seen.rank0").read_text().splitlines())
    views = page.views()
    assert views
    for (_, row), pixels in views.items():
        assert f"{pixel_digest(pixels):016x}" == seen[str(row)]
    assert re.search(r"mixed with row \d+ \(\w+/\d+\.\w+\): (mixup|cutmix): ", page.visible)


@pytest.mark.parametrize("kind", ["sample", "hybrid"])
def test_drawn_classes_are_marked(kind: str, data_path: Path, teacher_weights: Path, tmp_path: Path) -> None:
    words = ("store.selection=sample", "store.draws=5") if kind == "sample" else ("store.selection=hybrid",)
    call("save_logits", teacher_arguments(data_path, teacher_weights, tmp_path / "t.zarr", *words, "store.epochs=1"))
    page = gallery(tmp_path, tmp_path / "t.zarr")
    assert re.search(r"drawn \d x" if kind == "sample" else r"\bdrawn\b", page.visible)
    assert any(attributes.get("class", "").startswith("drawn") for tag, attributes in page.tags if tag == "li")


def test_names_from_outside_stay_text(teacher_weights: Path, tmp_path: Path) -> None:
    evil = '<img src=x onerror=alert(1)>&"quote"\''
    write_images(tmp_path / "images", 12)
    (tmp_path / "images" / "bell").rename(tmp_path / "images" / evil.replace("/", ""))
    pack(tmp_path / "images", tmp_path / "data")
    made = tmp_path / "made.zarr"
    call("save_logits", teacher_arguments(tmp_path / "data", teacher_weights, made, "store.epochs=1"))
    run, store = tmp_path / "<i>run", made.rename(tmp_path / "<b>t&.zarr")
    write_run(run, [json.dumps({"step": n, "epoch": n, "loss": n}) for n in (1, 2)])
    page = gallery(tmp_path, f"'{store}'", f"runs=['{run}']", "show.rows=12", data=tmp_path / "data")
    assert evil in page.visible and "<b>t&.zarr" in page.visible and "<i>run" in page.visible
    names = {tag for tag, _ in page.tags}
    assert not names & {"b>t", "i"} and "onerror" not in {name for _, attributes in page.tags for name in attributes}
    assert all(attributes["src"].startswith("data:") for tag, attributes in page.tags if tag == "img")


def test_nothing_in_the_page_leads_outside(store_path: Path, data_path: Path, tmp_path: Path) -> None:
    page = gallery(tmp_path, store_path, data=data_path)
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "poster", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes[name])
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
    assert "http" not in page.text.replace("http-equiv", "")
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


def test_a_store_that_is_not_complete(copied: Path, data_path: Path, tmp_path: Path) -> None:
    for epoch, block in ((0, 1), (1, 1), (1, 2)):
        (copied / "proofs" / "c" / str(epoch) / str(block)).unlink()
    page = gallery(tmp_path, copied, "show.pick=[70,0]", data=data_path)
    assert "3 of 6 blocks are written, 3 are missing" in page.visible
    assert "No epoch of this row is written" in page.visible
    assert {epoch for epoch, row in page.views() if row >= 128} <= {0}


def test_an_empty_store(copied: Path, data_path: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied / "proofs" / "c")
    page = gallery(tmp_path, copied, data=data_path)
    assert "No block of" in page.visible and "There is no row to show." in page.visible


def test_a_damaged_block(copied: Path, data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(logitstore.open(copied), epoch=0, block=0)
    page = gallery(tmp_path, copied, "show.pick=[3]", data=data_path)
    assert "1 damaged" in page.visible and "logitstore repair" in page.visible
    assert [epoch for epoch, row in page.views() if row == 3] == [1]
    assert "warning: Damage was found" in capsys.readouterr().out


def test_a_damaged_image(store_path: Path, data_path: Path, catalog: Catalog, tmp_path: Path) -> None:
    shutil.copytree(data_path, tmp_path / "data")
    shard = tmp_path / "data" / catalog.shards[0].name
    data = bytearray(shard.read_bytes())
    data[int(catalog.offsets[5]) + 50] ^= 255
    shard.write_bytes(data)
    page = gallery(tmp_path, store_path, "show.pick=[5]", data=tmp_path / "data")
    assert "differ from those that were packed" in page.visible
    assert not [at for at in page.views() if at[1] == 5]


def test_without_data_or_labels_there_are_predictions(store_path: Path, tmp_path: Path) -> None:
    page = gallery(tmp_path, store_path)
    assert "No data set was named" in page.visible and not page.views() and page.rows()
    spec = logitstore.StoreSpec(num_samples=20, num_epochs=1, num_classes=30, topk=5)
    logitstore.create(
        tmp_path / "bare.zarr", spec, keys=np.arange(20, dtype=np.uint64), labels=np.full(20, -1, np.int32)
    )
    with logitstore.writer(tmp_path / "bare.zarr") as writer:
        writer.write(0, 0, **random_targets(20, classes=30, topk=5, seed=1))
    page = gallery(tmp_path, tmp_path / "bare.zarr")
    assert "Least certain" in page.visible and "Hardest" not in page.visible and "Most disagreement" not in page.visible
    assert (
        re.search(r"\bclass \d+ ", page.visible) and "key hash" in page.visible and "labels are unknown" in page.visible
    )


def test_an_imported_store_cannot_be_replayed(data_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "logits" / "logits_top2_epoch0"
    folder.mkdir(parents=True)
    (folder / "rank0-keys.txt").write_text("n01/a.jpg\nn01/b.jpg\n")
    records = [(1234, [3, 1], [0.5, 0.25]), (-99, [2, 7], [0.75, 0.125])]
    np.array(records, [("seed", "<i4"), ("indices", "<i2", 2), ("values", "<f2", 2)]).tofile(
        folder / "rank0-values.bin"
    )
    import_tinyvit(tmp_path / "logits", tmp_path / "t.zarr", num_classes=1000)
    page = gallery(tmp_path, tmp_path / "t.zarr", data=data_path)
    assert "were imported (TinyViT logits)" in page.visible and "great white shark" in page.visible


def test_views_of_another_version_are_not_drawn(
    store_path: Path, data_path: Path, catalog: Catalog, tmp_path: Path
) -> None:
    view = logitstore.open(store_path).spec.view
    newer = remade(store_path, catalog, tmp_path / "newer.zarr", view=view | {"version": 99})
    page = gallery(tmp_path, newer, data=data_path)
    assert "only originals are shown" in page.visible and "99" in page.visible
    assert not page.views() and any("original image" in a["alt"] for tag, a in page.tags if tag == "img")
    unsized = remade(store_path, catalog, tmp_path / "unsized.zarr", teacher={"name": "someone"})
    assert "show.size=224" in gallery(tmp_path, unsized, data=data_path).visible
    assert gallery(tmp_path, unsized, "show.size=32", data=data_path).views()


def test_views_that_render_differently_have_a_warning(
    store_path: Path, data_path: Path, catalog: Catalog, tmp_path: Path
) -> None:
    software = logitstore.open(store_path).spec.software
    other = software | {"views": software["views"] | {"digest": "0" * 16, "opencv": "1.2.3"}}
    page = gallery(tmp_path, remade(store_path, catalog, tmp_path / "a.zarr", software=other), data=data_path)
    assert "may not be what the teacher saw" in page.visible and "opencv 1.2.3 there" in page.visible
    view = logitstore.open(store_path).spec.view | {"flip": 0.25}
    page = gallery(tmp_path, remade(store_path, catalog, tmp_path / "b.zarr", view=view), data=data_path)
    assert "are not what the teacher saw" in page.visible and "those that the teacher saw" not in page.visible


def test_a_store_behind_a_url(store_path: Path, data_path: Path, tmp_path: Path) -> None:
    url = "memory://gallery/t.zarr"
    logitstore.copy(store_path, url)
    assert gallery(tmp_path, url, data=data_path).views()


def test_a_page_has_a_limit(
    store_path: Path, data_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = gallery(tmp_path, store_path, "show.rows=40", "max_mb=0.3", data=data_path)
    assert 0 < len(small.rows()) < 40
    assert len(small.text.encode()) <= 300_000
    assert re.search(r"\d+ of \d+ rows were left out to keep the page below 0.3 MB", small.visible)
    assert "rows were left out" in capsys.readouterr().out
    with pytest.raises(DistillError, match=r"max_mb=0.02: the page takes 0.0\d MB without a single row"):
        gallery(tmp_path, store_path, "max_mb=0.02", data=data_path)


def test_curves_of_runs_are_drawn(store_path: Path, data_path: Path, tmp_path: Path) -> None:
    call("train_student", student_arguments(data_path, tmp_path / "one", f"store.path={store_path}", "train.steps=4"))
    write_run(tmp_path / "two", [json.dumps({"step": n, "epoch": n, "loss": n}) for n in (1, 2)], finished=False)
    page = gallery(tmp_path, store_path, f"runs=[{tmp_path / 'one'},{tmp_path / 'two'}]")
    assert sum(tag == "polyline" for tag, _ in page.tags) == 2 + 2, "loss of both; agreement and accuracy of one"
    assert "Training runs" in page.visible and str(tmp_path / "two") in page.visible and "not finished" in page.visible


def test_faults_are_one_error(store_path: Path, data_path: Path, wordnet_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DistillError, match=r"other data than"):
        gallery(tmp_path, store_path, data=wordnet_path)
    with pytest.raises(DistillError, match=r"no data set at"):
        gallery(tmp_path, store_path, data=tmp_path / "nowhere")
    with pytest.raises(logitstore.StoreMissing):
        gallery(tmp_path, tmp_path / "nowhere.zarr")
    with pytest.raises(UsageError, match=r"rows 0 to 149, not 150"):
        gallery(tmp_path, store_path, "show.pick=[150]")
    with pytest.raises(DistillError, match=r"not the folder of a run"):
        gallery(tmp_path, store_path, f"runs=[{tmp_path}]")
    (tmp_path / "gallery.html").write_text("mine")
    with pytest.raises(DistillError, match=r"is no page of distill.gallery"):
        gallery(tmp_path, store_path)
    assert (tmp_path / "gallery.html").read_text() == "mine"


def test_the_files_of_the_page_are_installed_with_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "distill.page"
    ]
    folder = ROOT / "distill" / "page"
    declared = {path for pattern in patterns for path in folder.glob(pattern)}
    assert declared == {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
