"""`copy` and `merge`: blocks are copied whole and verified, and what contradicts itself is refused first."""

import shutil

import numpy as np
import pytest

import logitstore
from logitstore.format.shard import HEADER_BYTES
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
    # Identical blocks, of other writes, are no conflict.
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
    write_copy = Writer.write_copy
    written = []

    def dying(self, epoch, block, source):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append((epoch, block))
        write_copy(self, epoch, block, source)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write_copy", dying)
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
    start = HEADER_BYTES[logitstore.FORMAT_VERSION]  # Which names the store.
    for name in ("seeds/c", "indices/c", "logprobs/c", "tail/c", "proofs/c"):
        files = {p.relative_to(source): p.read_bytes()[start:] for p in (source / name).rglob("*") if p.is_file()}
        assert files == {
            p.relative_to(target): p.read_bytes()[start:] for p in (target / name).rglob("*") if p.is_file()
        }
    with pytest.raises(logitstore.OutOfRange, match="epoch 3"):
        logitstore.copy(source, target, epochs=[3])


def test_damage_is_not_copied(make_store, tmp_path):
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
