"""`repair`: damaged blocks are dropped, good ones are not touched."""

import pytest

import logitstore


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


def test_repair_cannot_fix_samples_or_a_store_in_use(make_store):
    path = make_store()
    with logitstore.writer(path), pytest.raises(logitstore.StoreLocked):
        logitstore.repair(path)
    (path / "samples/labels/c/0").unlink()
    assert [finding.id for finding in logitstore.repair(path).left] == ["damaged-samples"]
    assert logitstore.open(path).done().all()
