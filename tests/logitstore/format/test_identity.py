"""No file of another store passes for one of this store, and parts can still be copied and merged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import logitstore
from logitstore.cli import main
from logitstore.format.identity import spec_digest

GOLDEN = Path(__file__).parents[1] / "golden"
Make = Callable[..., Path]


def all_rows(path: Path, *, epoch: int = 0) -> list[np.ndarray]:
    store = logitstore.open(path)
    rows = store.read(epoch=epoch, rows=slice(None))
    return [rows.seeds, rows.indices, rows.logprobs, rows.tail, store.keys(slice(None)), store.labels(slice(None))]


def assert_equal(one: Path, other: Path, *, epoch: int = 0) -> None:
    for a, b in zip(all_rows(one, epoch=epoch), all_rows(other, epoch=epoch), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("teacher", [{}, {"weights": "b"}], ids=["same spec", "another teacher"])
@pytest.mark.parametrize(
    ("files", "read"),
    [
        (["seeds/c/0/1", "indices/c/0/1/0", "logprobs/c/0/1/0", "tail/c/0/1", "proofs/c/0/1"], "block"),
        (["tail/c/0/1"], "block"),
        (["proofs/c/0/1"], "block"),
        (["samples/keys/c/0"], "keys"),
        (["samples/labels/c/0"], "labels"),
        (["tail_model/groups/c/0"], "tail model"),
        (["tail_model/logprobs/c/0/0"], "tail model"),
        (["zarr.json"], "all"),
    ],
)
def test_files_of_another_store_are_damage(make_store: Make, teacher: dict, files: list[str], read: str) -> None:
    model = logitstore.TailModel(groups=np.arange(30) % 2, logprobs=np.full((2, 30), -np.log(30), np.float32))
    path = make_store(tail_groups=2, tail_model=model)
    other = make_store(name="other.zarr", tail_groups=2, tail_model=model, teacher=teacher)
    for file in files:
        shutil.copy(other / file, path / file)
    store = logitstore.open(path)
    reads = {
        "block": lambda: store.read(epoch=0, rows=8),
        "keys": lambda: store.keys(0),
        "labels": lambda: store.labels(0),
        "tail model": store.tail_model,
    }
    for work in reads.values() if read == "all" else [reads[read]]:
        with pytest.raises(logitstore.DamagedBlock, match="is of another store"):
            work()
    report = logitstore.check(path)
    assert {fault.id for fault in report.faults} <= {"damaged-block", "damaged-samples"}
    assert report.faults


def test_a_spec_that_was_edited_with_its_checksum(make_store: Make) -> None:
    from logitstore.format.layout import json_checksum

    path = make_store()
    root = json.loads((path / "zarr.json").read_text())
    attributes = root["attributes"]
    attributes["spec"]["teacher"] = {"name": "a better one"}
    del attributes["crc32c"]
    attributes["crc32c"] = json_checksum(attributes)
    (path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(logitstore.DamagedBlock, match="under another spec"):
        logitstore.open(path).read(epoch=0, rows=0)


def test_the_digest_is_of_what_does_not_change(make_spec: Callable[..., logitstore.StoreSpec]) -> None:
    spec = make_spec()
    assert spec_digest(replace(spec, num_epochs=9, software={"torch": "9"})) == spec_digest(spec)
    for changes in ({"topk": 4}, {"store_seed": 1}, {"view": {"a": 1}}, {"teacher": {"a": 1}}, {"data": {"a": 1}}):
        assert spec_digest(make_spec(**changes)) != spec_digest(spec)


def test_copies_and_merges_are_stores_of_their_own(make_store: Make, tmp_path: Path) -> None:
    a, b = make_store(name="a.zarr", missing={(0, 1), (1, 0)}), make_store(name="b.zarr", missing={(0, 0), (1, 2)})
    logitstore.merge(tmp_path / "whole.zarr", [a, b])
    assert logitstore.check(tmp_path / "whole.zarr").ok
    assert_equal(tmp_path / "whole.zarr", make_store(name="all.zarr"))
    logitstore.copy(tmp_path / "whole.zarr", tmp_path / "copy.zarr", epochs=[1])
    assert logitstore.copy(tmp_path / "whole.zarr", tmp_path / "copy.zarr").blocks_present == 3
    ids = {json.loads((p / "zarr.json").read_text())["attributes"]["store_id"] for p in tmp_path.glob("*.zarr")}
    assert len(ids) == len(list(tmp_path.glob("*.zarr")))
    shutil.copytree(tmp_path / "whole.zarr", tmp_path / "raw.zarr")
    shutil.copy(tmp_path / "whole.zarr/tail/c/0/1", tmp_path / "raw.zarr/tail/c/0/1")
    assert logitstore.check(tmp_path / "raw.zarr").ok


def test_a_store_grows_and_keeps_its_identity(make_store: Make, rows_for: Callable[..., dict]) -> None:
    path = make_store()
    logitstore.grow(path, epochs=3)
    with logitstore.writer(path) as writer:
        for epoch, block in writer.missing():
            writer.write(epoch, block, **rows_for(writer.spec, epoch, block))
    assert logitstore.check(path).ok


@pytest.mark.parametrize("name", ["log8", "float16", "counts", "hybrid", "max_mass"])
def test_version_1_is_read_continued_merged_and_upgraded(name: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old.zarr", tmp_path / "new.zarr"
    shutil.copytree(GOLDEN / f"v1-{name}.zarr", old)
    done = CliRunner().invoke(main, ["upgrade", str(old), str(new)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (logitstore.open(old).format_version, logitstore.open(new).format_version) == (1, 2)
    assert_equal(old, new)
    again = CliRunner().invoke(main, ["upgrade", str(new), str(tmp_path / "newer.zarr")])
    assert again.exit_code == 1 and "is of format version 2 already" in again.output
    rows = logitstore.open(old).read(epoch=0, rows=range(4, 5))
    drawn = None if rows.drawn is None else rows.drawn
    if drawn is None:  # The store goes on in its own version.
        with logitstore.writer(old) as writer:
            writer.write(1, 1, seeds=rows.seeds, indices=rows.indices, logprobs=rows.logprobs, tail=rows.tail, proof=9)
        assert logitstore.check(old).ok and logitstore.open(old).format_version == 1
        assert logitstore.grow(old, epochs=3).num_epochs == 3
        assert logitstore.open(old).format_version == 1
        assert logitstore.merge(new, [old]).blocks_written == 1  # From version 1 into version 2,
        assert_equal(old, new, epoch=1)
    part = tmp_path / "part.zarr"
    shutil.copytree(GOLDEN / f"v1-{name}.zarr", part)
    (part / "proofs/c/0/1").unlink()
    assert logitstore.merge(part, [new]).blocks_written >= 1  # and the other way round.
    assert logitstore.open(part).format_version == 1
    assert_equal(part, new)


def test_what_version_1_cannot_vouch_for_is_said() -> None:
    path = str(GOLDEN / "v1-log8.zarr")
    for command in ("info", "check"):
        done = CliRunner().invoke(main, [command, path])
        assert "format version 1: its files do not name their store" in done.output
