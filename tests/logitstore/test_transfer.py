"""`copy` and `merge`: blocks travel whole and verified, and what contradicts itself is refused first."""

import shutil

import numpy as np
import pytest

import logitstore
from logitstore.writer import Writer

ALL = tuple((e, b) for e in range(2) for b in range(3))


def test_parts_written_apart_become_one_store(make_store, content, tmp_path):
    whole = make_store(name="whole.zarr")
    a = make_store(name="a.zarr", missing=((0, 0), (1, 1), (1, 2)))
    b = make_store(name="b.zarr", missing=((0, 1), (0, 2), (1, 0), (1, 1)))
    done = logitstore.merge(tmp_path / "m.zarr", [a, b])
    # Block (1, 2) of b is in neither of the others; (1, 1) is in none.
    assert (done.blocks_written, done.blocks_present, done.blocks_verified) == (5, 0, 5)
    expected = {k: v for k, v in content(whole).items() if not k.endswith(" 1 1")}
    assert content(tmp_path / "m.zarr") == expected
    # Identical blocks, written by other acts of writing, are no conflict.
    again = logitstore.merge(tmp_path / "m.zarr", [whole, a])
    assert (again.blocks_written, again.blocks_present) == (1, 8)
    assert content(tmp_path / "m.zarr") == content(whole)
    assert logitstore.check(tmp_path / "m.zarr").ok


def test_epochs_written_apart_become_one_store(make_store, content):
    whole = make_store(name="whole.zarr", num_epochs=3)
    first = make_store(name="first.zarr", num_epochs=1)
    later = make_store(name="later.zarr", num_epochs=3, missing=((0, 0), (0, 1), (0, 2)))
    logitstore.merge(first, [later])
    assert content(first) == content(whole)


@pytest.mark.parametrize("change", ["seeds", "proof"])
def test_a_conflict_is_named_and_nothing_is_written(make_store, rows_for, content, tmp_path, change):
    a, b = make_store(name="a.zarr"), make_store(name="b.zarr", missing=((1, 2),))
    with logitstore.writer(b) as writer:
        rows = rows_for(writer.spec, 1, 2)
        writer.write(1, 2, **{**rows, change: rows[change] + 1})
    target = make_store(name="target.zarr", missing=ALL)
    before = content(target)
    for path in (target, tmp_path / "new.zarr"):
        with pytest.raises(logitstore.StoreConflict, match="epoch 1, block 2; nothing was written"):
            logitstore.merge(path, [a, b])
    assert content(target) == before
    assert not (tmp_path / "new.zarr").exists()


def test_stores_of_other_things_are_not_merged(make_store, tmp_path, make_spec):
    a = make_store(name="a.zarr")
    with pytest.raises(logitstore.StoreConflict, match=r"store_seed: the one has 0, the other 9"):
        logitstore.merge(tmp_path / "m.zarr", [a, make_store(name="b.zarr", store_seed=9)])
    logitstore.create(tmp_path / "keys.zarr", make_spec(), keys=np.arange(20), labels=np.arange(20) % 5 - 1)
    with pytest.raises(logitstore.StoreConflict, match="samples/keys"):
        logitstore.merge(a, [tmp_path / "keys.zarr"])
    with pytest.raises(logitstore.StoreMissing):
        logitstore.merge(a, [tmp_path / "gone.zarr"])


def test_a_copy_of_some_epochs_goes_on_where_it_was_stopped(make_store, content, tmp_path, monkeypatch):
    source = make_store(num_epochs=3)
    target = tmp_path / "copy.zarr"
    write_files = Writer.write_files
    written = []

    def dying(self, epoch, block, encoded, **more):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append((epoch, block))
        write_files(self, epoch, block, encoded, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write_files", dying)
        with pytest.raises(KeyboardInterrupt):
            logitstore.copy(source, target, epochs=[0, 2])
    seen = []
    done = logitstore.copy(source, target, epochs=[2, 0], progress=lambda *what: seen.append(what))
    assert (done.blocks_written, done.blocks_present, done.blocks_verified) == (2, 4, 6)
    assert seen[0] == ("copying blocks", 0, 2)
    assert seen[-1] == ("verifying blocks", 6, 6)
    assert logitstore.open(target).done().tolist() == [[True] * 3, [False] * 3, [True] * 3]
    logitstore.copy(source, target)
    assert content(target) == content(source)
    for name in ("seeds/c", "indices/c", "logprobs/c", "tail/c", "proofs/c"):
        files = {p.relative_to(source): p.read_bytes() for p in (source / name).rglob("*") if p.is_file()}
        assert files == {p.relative_to(target): p.read_bytes() for p in (target / name).rglob("*") if p.is_file()}
    with pytest.raises(logitstore.OutOfRange, match="epoch 3"):
        logitstore.copy(source, target, epochs=[3])


def test_damage_does_not_travel(make_store, tmp_path):
    source = make_store()
    file = source / "indices/c/1/1/0"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(logitstore.DamagedBlock, match="array indices, epoch 1, block 1"):
        logitstore.copy(source, tmp_path / "copy.zarr")
    assert not logitstore.open(tmp_path / "copy.zarr").done()[1, 1]


def test_a_block_that_did_not_arrive_whole_is_found(make_store, tmp_path):
    source, target = make_store(), tmp_path / "copy.zarr"
    logitstore.copy(source, target)
    shutil.copy(target / "tail/c/0/0", target / "tail/c/0/1")
    with pytest.raises(logitstore.DamagedBlock, match="did not arrive whole"):
        logitstore.copy(source, target)


def test_recode_adds_what_it_drops_to_the_tail(make_store, tmp_path):
    source = make_store(encoding="float16", missing=((0, 1),))
    spec = logitstore.recode(source, tmp_path / "small.zarr", topk=2, encoding="log8")
    assert (spec.topk, spec.encoding, spec.software["recoded_from"]) == (2, "log8", {"topk": 5, "encoding": "float16"})
    old, new = logitstore.open(source), logitstore.open(tmp_path / "small.zarr")
    np.testing.assert_array_equal(new.done(), old.done())
    for rows in (dict(epoch=1, rows=slice(None)), dict(epoch=0, rows=range(8))):
        a, b = old.read(**rows), new.read(**rows)
        np.testing.assert_array_equal(b.indices, a.indices[:, :2])
        np.testing.assert_array_equal(b.seeds, a.seeds)
        lost = np.exp(a.logprobs[:, 2:]).sum(axis=1) + np.exp(a.tail)
        np.testing.assert_allclose(np.exp(b.tail), lost, atol=0.02)
        assert (np.exp(b.tail) > np.exp(a.tail)).all()
    assert new.proof(1, 2) == old.proof(1, 2)
    np.testing.assert_array_equal(new.keys(slice(None)), old.keys(slice(None)))
    np.testing.assert_array_equal(new.labels(slice(None)), old.labels(slice(None)))


def test_recode_within_log8_keeps_the_ratios_of_classes(make_store, tmp_path):
    source = make_store()
    logitstore.recode(source, tmp_path / "small.zarr", topk=3)
    a = logitstore.open(source).read(epoch=0, rows=slice(None))
    b = logitstore.open(tmp_path / "small.zarr").read(epoch=0, rows=slice(None))
    np.testing.assert_allclose(np.diff(b.logprobs), np.diff(a.logprobs[:, :3]), atol=1e-5)


def test_recode_goes_on_and_refuses_what_it_cannot_do(make_store, tmp_path):
    source, target = make_store(), tmp_path / "small.zarr"
    logitstore.recode(source, target, topk=3, epochs=[1])
    assert logitstore.open(target).done().tolist() == [[False] * 3, [True] * 3]
    logitstore.recode(source, target, topk=3)
    assert logitstore.open(target).done().all()
    with pytest.raises(logitstore.StoreConflict, match="topk: store has 3, request has 4"):
        logitstore.recode(source, target, topk=4)
    with pytest.raises(logitstore.SpecError, match="keeps 5 classes"):
        logitstore.recode(source, tmp_path / "more.zarr", topk=6)


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
    assert done.temporary == ("seeds/c/0/0.123.tmp",)
    report = logitstore.check(path)
    assert {fault.id for fault in report.faults} == {"missing-blocks"}
    assert not report.notes
    assert content(path) == {k: v for k, v in before.items() if not k.endswith((" 0 1", " 1 2"))}


def test_repair_cannot_mend_samples_or_a_store_in_use(make_store):
    path = make_store()
    with logitstore.writer(path), pytest.raises(logitstore.StoreLocked):
        logitstore.repair(path)
    (path / "samples/labels/c/0").unlink()
    assert [finding.id for finding in logitstore.repair(path).left] == ["damaged-samples"]
    assert logitstore.open(path).done().all()
