"""`repair`: damaged blocks are dropped, good ones are not touched."""

import contextlib
from contextlib import contextmanager

import pytest

import logitstore
from logitstore.storage.local import LocalStorage


def test_repair_drops_what_is_damaged_and_nothing_else(make_store, content):
    path = make_store()
    before = content(path)
    (path / "tail/c/0/1").unlink()
    marker = bytearray((path / "proofs/c/1/2").read_bytes())
    marker[40] ^= 1
    (path / "proofs/c/1/2").write_bytes(marker)
    (path / "seeds/zarr.json").write_text("{}")
    (path / "seeds/c/0/0.123.tmp").write_bytes(b"half")
    would = logitstore.repair(path, dry_run=True)
    assert would.dropped == ((0, 1), (1, 2))
    assert (path / "seeds/c/0/0.123.tmp").exists() and (path / "seeds/c/0/1").exists()
    done = logitstore.repair(path)
    assert (done.dropped, done.metadata, done.left) == (((0, 1), (1, 2)), ("seeds/zarr.json",), ())
    assert done.name and not done.passing
    moved = {str(p.relative_to(path / "dropped" / done.name)) for p in (path / "dropped").rglob("*") if p.is_file()}
    assert moved == {
        "seeds/zarr.json", "proofs/c/0/1", "seeds/c/0/1", "indices/c/0/1/0", "logprobs/c/0/1/0",
        "proofs/c/1/2", "seeds/c/1/2", "indices/c/1/2/0", "logprobs/c/1/2/0", "tail/c/1/2",
    }  # fmt: skip
    assert done.temporary == ("seeds/c/0/0.123.tmp",)
    report = logitstore.check(path)
    assert {fault.id for fault in report.faults} == {"missing-blocks"}
    assert not report.notes
    assert content(path) == {k: v for k, v in before.items() if not k.endswith((" 0 1", " 1 2"))}


def test_repair_cannot_fix_samples_or_a_store_in_use(make_store):
    path = make_store()
    with logitstore.writer(path), pytest.raises(logitstore.StoreLocked):
        logitstore.repair(path)
    (path / "samples/labels/c/0").unlink()
    assert [finding.id for finding in logitstore.repair(path).left] == ["damaged-samples"]
    assert logitstore.open(path).done().all()


def test_what_was_dropped_can_be_brought_back(make_store, rows_for, content):
    path = make_store()
    before = content(path)
    good = (path / "tail/c/0/1").read_bytes()
    for place in ("0/1", "1/0", "1/1"):
        (path / "tail/c" / place).write_bytes(b"damaged")
    done = logitstore.repair(path)
    assert logitstore.open(path).done().sum() == 3
    with logitstore.writer(path) as writer:
        writer.write(1, 1, **rows_for(writer.spec, 1, 1))
    (path / "dropped" / done.name / "tail/c/0/1").write_bytes(good)  # Somebody has mended it.
    back = logitstore.restore(path, done.name)
    assert (back.restored, back.kept) == (((0, 1), (1, 0)), ((1, 1),))
    assert [(fault.epoch, fault.block) for fault in back.damaged] == [(1, 0)]
    assert {k: v for k, v in content_of_good(path, content).items()} == {
        k: v for k, v in before.items() if not k.endswith(" 1 0")
    }
    again = logitstore.repair(path)  # The damaged one is dropped once more, under another name.
    assert again.dropped == ((1, 0),) and again.name != done.name
    for name in ("nothing", "../seeds", "", "."):
        with pytest.raises(logitstore.StoreError):
            logitstore.restore(path, name)


def content_of_good(path, content):
    (marker := path / "proofs/c/1/0").rename(path / "aside")
    try:
        return content(path)
    finally:
        (path / "aside").rename(marker)


def test_a_fault_that_passes_drops_nothing(make_store, content, monkeypatch):
    path = make_store()
    before = content(path)
    real, calls = LocalStorage.reading, []

    def failing_at_first(self, key):
        calls.append(key)
        if key == "tail/c/0/1" and calls.count(key) == 1:
            raise OSError(5, "Input/output error")
        return real(self, key)

    monkeypatch.setattr(LocalStorage, "reading", failing_at_first)
    done = logitstore.repair(path)
    assert (done.dropped, done.passing, done.name) == ((), ((0, 1),), None)
    assert content(path) == before and not (path / "dropped").exists()


def test_what_differs_from_one_reading_to_the_next_changes_nothing(make_store, content, monkeypatch):
    path = make_store()
    before = content(path)
    real, calls = LocalStorage.reading, []

    @contextmanager
    def changing(self, key):
        with real(self, key) as (read, size):
            if key != "tail/c/0/1":
                yield read, size
                return
            calls.append(key)
            yield lambda offset, length: bytes([len(calls) % 251]) * len(read(offset, length)), size

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "reading", changing)
        with pytest.raises(logitstore.StoreError, match="reads differently from one time to the next"):
            logitstore.repair(path)
    assert content(path) == before and not (path / "dropped").exists()


@pytest.mark.parametrize("moves", range(11))
def test_a_repair_that_was_killed_loses_nothing(make_store, content, monkeypatch, moves):
    path = make_store()
    before = content(path)
    good = {place: (path / "tail/c" / place).read_bytes() for place in ("0/1", "1/0")}
    for place in good:
        (path / "tail/c" / place).write_bytes(b"damaged")
    real, done = LocalStorage.move, []

    def dying(self, key, new_key):
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(key)
        real(self, key, new_key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "move", dying)
        with contextlib.suppress(KeyboardInterrupt):
            logitstore.repair(path)
    logitstore.repair(path)
    for folder in sorted((path / "dropped").iterdir()):
        logitstore.restore(path, folder.name)
    for place, data in good.items():
        (path / "tail/c" / place).write_bytes(data)
    assert content(path) == before
