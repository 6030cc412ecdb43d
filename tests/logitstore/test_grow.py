"""A store takes more epochs; killed at any moment it is the old store or the new one."""

import numpy as np
import pytest
import zarr

import logitstore
from logitstore.storage import local


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
    write = local.write

    def dying(target, data):
        if len(written) == survived:
            raise KeyboardInterrupt
        written.append(target)
        write(target, data)

    with monkeypatch.context() as patch:
        patch.setattr(local, "write", dying)
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
