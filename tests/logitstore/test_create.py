"""A store appears at once or not at all. It takes more epochs; killed meanwhile, it is the old store or the new one."""

import uuid

import numpy as np
import pytest
import zarr

import logitstore
from logitstore.storage import local


def test_create_refuses_what_is_there(make_store, make_spec, tmp_path):
    path = make_store()
    with pytest.raises(logitstore.StoreExists, match=r"t\.zarr"):
        logitstore.create(path, make_spec(), keys=np.zeros(20, np.uint64), labels=np.zeros(20, int))
    assert logitstore.check(path).ok
    (tmp_path / "empty").mkdir()
    with pytest.raises(logitstore.StoreExists):
        logitstore.create(tmp_path / "empty", make_spec(), keys=np.zeros(20, np.uint64), labels=np.zeros(20, int))


@pytest.mark.parametrize("at", ["disk", "memory"])
def test_a_store_of_the_same_may_exist(make_store, make_spec, content, at):
    path = make_store(software={"torch": "2.6"})
    if at == "memory":
        url = f"memory://stores/{uuid.uuid4().hex}/t.zarr"
        logitstore.copy(path, url)
        path = url
    before = content(path)
    columns = {"keys": np.arange(20) * 7, "labels": np.arange(20) % 5 - 1}
    logitstore.create(path, make_spec(software={"torch": "2.7"}), **columns, exist_ok=True)
    assert content(path) == before
    for spec, changes, part in [
        (make_spec(topk=4), {}, "topk: store has 5, request has 4"),
        (make_spec(), {"keys": np.arange(20)}, "samples/keys differ"),
        (make_spec(), {"labels": np.zeros(20, int)}, "samples/labels differ"),
        (make_spec(), {"labels": np.arange(21) % 5 - 1}, "20 samples, not 21"),
    ]:
        with pytest.raises(logitstore.StoreConflict, match=part):
            logitstore.create(path, spec, **columns | changes, exist_ok=True)
    with pytest.raises(logitstore.StoreExists):
        logitstore.create(path, make_spec(), **columns)
    assert content(path) == before


def test_what_is_not_a_store_may_not_exist(tmp_path, make_spec):
    (tmp_path / "t.zarr").mkdir()
    with pytest.raises(logitstore.StoreExists):
        logitstore.create(tmp_path / "t.zarr", make_spec(), keys=np.arange(20), labels=np.zeros(20, int), exist_ok=True)


@pytest.mark.parametrize(
    ("keys", "labels", "part"),
    [
        (np.zeros(19, np.uint64), np.zeros(20, int), "keys must be 20"),
        (np.zeros(20), np.zeros(20, int), "keys must be 20"),
        (np.full(20, -1), np.zeros(20, int), "keys do not fit"),
        (np.zeros(20, np.uint64), np.full(20, -2), "below -1"),
        (np.zeros(20, np.uint64), np.full(20, 2**40), "labels do not fit"),
    ],
)
def test_create_refuses_columns_that_do_not_fit(tmp_path, make_spec, keys, labels, part):
    with pytest.raises(logitstore.SpecError, match=part):
        logitstore.create(tmp_path / "t.zarr", make_spec(), keys=keys, labels=labels)
    assert list(tmp_path.iterdir()) == []


def test_a_create_that_dies_leaves_no_store(tmp_path, make_spec, monkeypatch):
    write = local.write_atomically

    def dying(path, data, **more):
        if path.parent.name == "proofs":
            raise KeyboardInterrupt
        write(path, data, **more)

    monkeypatch.setattr(local, "write_atomically", dying)
    with pytest.raises(KeyboardInterrupt):
        logitstore.create(tmp_path / "t.zarr", make_spec(), keys=np.zeros(20, np.uint64), labels=np.zeros(20, int))
    assert list(tmp_path.iterdir()) == []


def test_a_grown_store_keeps_what_it_has_and_takes_more(make_store, rows_for, content):
    path = make_store()
    before = content(path)
    assert logitstore.grow(path, epochs=4).num_epochs == 4
    store = logitstore.open(path)
    assert store.done().tolist() == [[True] * 3] * 2 + [[False] * 3] * 2
    assert content(path) == before
    with logitstore.writer(path) as writer:
        writer.write(3, 2, **rows_for(writer.spec, 3, 2))
    assert content(path).items() > before.items()
    np.testing.assert_array_equal(zarr.open(path, mode="r")["seeds"][3, 16:], rows_for(store.spec, 3, 2)["seeds"])
    report = logitstore.check(path)
    assert [fault.id for fault in report.faults] == ["missing-blocks"] * 2
    assert not report.notes


def test_growing_to_the_same_number_changes_nothing_and_shrinking_is_refused(make_store):
    path = make_store()
    stamps = {p: p.stat().st_mtime_ns for p in path.rglob("zarr.json")}
    assert logitstore.grow(path, epochs=2).num_epochs == 2
    assert {p: p.stat().st_mtime_ns for p in path.rglob("zarr.json")} == stamps
    with pytest.raises(logitstore.SpecError, match="cannot shrink to 1"):
        logitstore.grow(path, epochs=1)


@pytest.mark.parametrize("survived", range(8))
def test_a_growth_that_dies_leaves_the_old_store(make_store, content, monkeypatch, survived):
    path = make_store()
    before = content(path)
    written = []
    write = local.write_atomically

    def dying(target, data, **more):
        if len(written) == survived:
            raise KeyboardInterrupt
        written.append(target)
        write(target, data, **more)

    with monkeypatch.context() as patch:
        patch.setattr(local, "write_atomically", dying)
        with pytest.raises(KeyboardInterrupt):
            logitstore.grow(path, epochs=5)
    assert logitstore.open(path).spec.num_epochs == 2
    assert content(path) == before
    report = logitstore.check(path)
    assert report.ok
    assert [note.id for note in report.notes] == (["unfinished-growth"] if survived else [])
    assert logitstore.grow(path, epochs=5).num_epochs == 5
    assert not logitstore.check(path).notes


def test_a_store_that_is_being_written_does_not_grow(make_store):
    path = make_store()
    with logitstore.writer(path), pytest.raises(logitstore.StoreLocked):
        logitstore.grow(path, epochs=3)


def test_a_reader_opened_before_sees_its_epochs(make_store):
    path = make_store()
    store = logitstore.open(path)
    logitstore.grow(path, epochs=3)
    assert len(store.read(epoch=1, rows=slice(None))) == 20
    with pytest.raises(logitstore.OutOfRange):
        store.read(epoch=2, rows=0)
