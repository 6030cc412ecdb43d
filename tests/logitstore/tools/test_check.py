"""`check` against every kind of damage, and readers too: detected or harmless, never silently wrong."""

import json
import random
import shutil

import numpy as np
import pytest

import logitstore
from logitstore.format import shard
from logitstore.format.layout import BLOCK_FILES, arrays


def ids(report):
    return [fault.id for fault in report.faults]


@pytest.mark.parametrize("encoding", ["log8", "float16"])
def test_a_good_store(make_store, encoding):
    seen = []
    report = logitstore.check(make_store(encoding=encoding), progress=lambda at, of: seen.append((at, of)))
    assert report.ok
    assert not report.notes
    assert (report.blocks_committed, report.blocks_total) == (6, 6)
    assert seen == [(n, 6) for n in range(7)]
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


def test_missing_blocks_are_a_fault(make_store):
    report = logitstore.check(make_store(missing=((0, 1), (0, 2))))
    assert ids(report) == ["missing-blocks"]
    assert "epoch 0 lacks 2 of 3 blocks: 1-2" in report.faults[0].message
    assert json.loads(json.dumps(report.to_json()))["faults"][0]["epoch"] == 0


def test_leftovers_are_notes(make_store):
    path = make_store(missing=((0, 1),))
    (path / "seeds/c/0/1.0123abcd.tmp").write_bytes(b"half")
    (path / "tail/c/0/1").write_bytes(b"no marker commits this")
    report = logitstore.check(path)
    assert ids(report) == ["missing-blocks"]
    assert [note.id for note in report.notes] == ["uncommitted-blocks", "temporary-files"]


def test_metadata_faults_are_all_listed(make_store):
    path = make_store()
    (path / "tail/zarr.json").write_text("{")
    (path / "samples/zarr.json").unlink()
    report = logitstore.check(path)
    assert [(fault.id, fault.array) for fault in report.faults] == [
        ("bad-metadata", "tail"),
        ("bad-metadata", "samples"),
    ]


def test_damage_names_array_epoch_and_block(make_store):
    path = make_store()
    file = path / "logprobs/c/1/2/0"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    (fault,) = logitstore.check(path).faults
    assert (fault.id, fault.array, fault.epoch, fault.block) == ("damaged-block", "logprobs", 1, 2)
    with pytest.raises(logitstore.DamagedBlock, match=r"array logprobs, epoch 1, block 2.*repair.*teacher pass then"):
        logitstore.open(path).read(epoch=1, rows=19)


def damage(path, target, rng):
    """One random act of corruption on one file; what was done."""
    data = bytearray(target.read_bytes())
    act = rng.choice(["flip", "truncate", "delete", "extend", "zero", "swap"])
    if act == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif act == "truncate":
        del data[rng.randrange(len(data)) :]
    elif act == "extend":
        data += bytes(rng.randrange(1, 50))
    elif act == "zero":
        data[:] = bytes(len(data))
    if act == "delete":
        target.unlink()
    elif act == "swap":
        others = [p for p in path.rglob("*") if p.is_file() and p != target and p.suffix != ".lock"]
        other = rng.choice([p for p in others if p.parts[-4:-3] == target.parts[-4:-3]] or others)
        mine, theirs = target.read_bytes(), other.read_bytes()
        target.write_bytes(theirs)
        other.write_bytes(mine)
        return f"swap {target.relative_to(path)} with {other.relative_to(path)}"
    else:
        target.write_bytes(data)
    return f"{act} {target.relative_to(path)}"


@pytest.mark.parametrize("encoding", ["log8", "float16"])
def test_no_corruption_yields_wrong_numbers(make_store, content, tmp_path, encoding):
    good = make_store(encoding=encoding, view={"scale": [0.08, 1.0]})
    expected = content(good)
    rng = random.Random(1)
    for number in range(36):
        path = tmp_path / f"damaged{number}.zarr"
        shutil.copytree(good, path)
        targets = sorted(p for p in path.rglob("*") if p.is_file() and p.name != "writer.lock")
        act = damage(path, rng.choice(targets), rng)
        try:
            found = content(path)
        except logitstore.StoreError:
            found = None
        try:
            report = logitstore.check(path)
            clean = report.ok
        except logitstore.StoreError:
            clean = False
        if found is not None:
            assert found.items() <= expected.items(), act
        if clean:
            assert found is not None, act
            assert found.keys() == expected.keys(), act
        shutil.rmtree(path)


@pytest.mark.parametrize("name", BLOCK_FILES)
def test_swapped_files_are_found_by_their_headers(make_store, name):
    path = make_store()
    layout = arrays(logitstore.open(path).spec)[name]
    a, b = path / layout.key(0, 1), path / layout.key(1, 1)
    mine, theirs = a.read_bytes(), b.read_bytes()
    a.write_bytes(theirs)
    b.write_bytes(mine)
    report = logitstore.check(path)
    assert [(f.id, f.array, f.epoch) for f in report.faults] == [("damaged-block", name, 0), ("damaged-block", name, 1)]
    with pytest.raises(logitstore.DamagedBlock, match="was written as array"):
        logitstore.open(path).read(epoch=0, rows=9)


def test_files_of_two_writes_do_not_pass_as_one_block(make_store, rows_for):
    path = make_store()
    before = (path / "tail/c/0/1").read_bytes()
    with logitstore.writer(path) as writer:
        writer.write(0, 1, **rows_for(writer.spec, 0, 1), replace=True)
    (path / "tail/c/0/1").write_bytes(before)
    assert ids(logitstore.check(path)) == ["damaged-block"]
    with pytest.raises(logitstore.DamagedBlock, match="different writes"):
        logitstore.open(path).read(epoch=0, rows=9)


@pytest.mark.parametrize(
    ("encoding", "name", "change", "part"),
    [
        ("log8", "indices", lambda v: v.__setitem__((3, 1), 30), "outside"),
        ("log8", "indices", lambda v: v.__setitem__((3, 1), v[3, 0]), "occurs twice"),
        ("log8", "logprobs", lambda v: v.__setitem__((3, 1), 253), "out of order"),
        ("log8", "logprobs", lambda v: v.__setitem__((3, slice(1, None)), 254), "were drawn"),
        ("log8", "logprobs", lambda v: v.__setitem__((3, 1), 255), "after an empty entry"),
        ("float16", "logprobs", lambda v: v.__setitem__((3, 1), -0.0), "out of order"),
        ("float16", "logprobs", lambda v: v.__setitem__((3, 1), np.nan), "out of order"),
        ("float16", "tail", lambda v: v.__setitem__(3, 0.5), "out of range"),
    ],
)
def test_values_no_writer_would_store(make_store, encoding, name, change, part):
    path = make_store(encoding=encoding)
    store = logitstore.open(path)
    layout = arrays(store.spec)[name]
    write_id, chunks = store.files.shard(name, 0, 0, [0])
    values = np.array(chunks[0])
    if name == "logprobs" and encoding == "log8":
        values[3, 0] = max(values[3, 0], 1)
    change(values)
    header = store.files.header(layout, 0, 0, write_id=write_id)
    (path / layout.key(0, 0)).write_bytes(shard.encode_shard(values, layout=layout, header=header))
    report = logitstore.check(path)
    assert ids(report)[0] == "bad-values"
    assert any(part in fault.message for fault in report.faults)
