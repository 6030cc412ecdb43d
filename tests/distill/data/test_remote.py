"""Data sets on URLs: fetched into a bounded cache, retried, reported; the images are those of the folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

import distill.data.remote
from distill.data.catalog import Catalog, open_catalog
from distill.data.remote import Remote, ShardCache, default_folder
from distill.data.shards import ShardReader
from distill.errors import DistillError
from logitstore.storage.atomic import TEMPORARY
from logitstore.storage.remote_files import RemoteFiles
from tests.programs import call, student_arguments, teacher_arguments


class Flaky:
    """A file system that fails, dawdles or cuts short the first `faults` reads of tar files."""

    def __init__(self, url: str, *, faults: int, kind: str = "error") -> None:
        self.files, self.root = fsspec.core.url_to_fs(url)
        self.faults, self.kind, self.reads = faults, kind, 0

    def info(self, path: str) -> Any:
        return self.files.info(path)

    def cat_file(self, path: str, **bounds: int) -> bytes:
        if path.endswith(".tar"):
            self.reads += 1
            if self.reads <= self.faults:
                if self.kind == "slow":
                    time.sleep(0.6)
                elif self.kind == "short":
                    return bytes(self.files.cat_file(path, **bounds))[:-1]
                else:
                    raise ConnectionResetError("the line went dead")
        return bytes(self.files.cat_file(path, **bounds))


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(folder=tmp_path / "cache", retries=2, pause=0.01, timeout=20.0)


def shards_in(cache: ShardCache) -> list[Path]:
    return sorted(cache.folder.glob("*/*.tar"))


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_every_row_is_the_same_from_a_url(kind: str, data_path: Path, catalog: Catalog, cache: ShardCache) -> None:
    url = f"file://{data_path}"
    if kind == "memory":
        url = "memory://bucket/train"
        fsspec.filesystem("memory").put(str(data_path), "/bucket/train", recursive=True)
    remote = open_catalog(url + "/", cache=cache)
    assert remote.fingerprint == catalog.fingerprint
    assert remote.where == url
    assert shards_in(cache) == []
    with ShardReader(remote) as ours, ShardReader(catalog) as local:
        assert ours.read(3) == local.read(3)
        assert len(shards_in(cache)) == 1
        assert all(ours.read(row) == local.read(row) for row in range(len(catalog)))
    assert len(shards_in(cache)) == len(catalog.shards)
    assert not [path for path in cache.folder.rglob("*") if path.suffix in (TEMPORARY, ".claim")]


@pytest.mark.parametrize("kind", ["error", "slow", "short"])
def test_a_failing_or_slow_read_is_tried_again(
    kind: str, data_path: Path, cache: ShardCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = replace(cache, timeout=0.2 if kind == "slow" else 20.0)
    remote = open_catalog(f"file://{data_path}", cache=cache)
    assert remote.remote
    flaky = Flaky(remote.remote.url, faults=2, kind=kind)
    monkeypatch.setattr(RemoteFiles, "filesystem", lambda self: (flaky, flaky.root))
    with ShardReader(remote) as shards, ShardReader(open_catalog(data_path)) as local:
        assert shards.read(0) == local.read(0)
    assert flaky.reads == 3


@pytest.mark.parametrize(
    ("kind", "said"), [("error", "ConnectionResetError: the line went dead"), ("short", "were asked for")]
)
def test_what_goes_on_failing_is_reported_with_shard_and_row(
    kind: str, said: str, data_path: Path, cache: ShardCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = open_catalog(f"file://{data_path}", cache=cache)
    assert remote.remote
    flaky = Flaky(remote.remote.url, faults=99, kind=kind)
    monkeypatch.setattr(RemoteFiles, "filesystem", lambda self: (flaky, flaky.root))
    where = rf"row 25 \({remote.key(25)}\) in file://\S+/shard-000001\.tar.*3 tries.*{said}.*data\.retries"
    with ShardReader(remote) as shards, pytest.raises(DistillError, match=where):
        shards.read(25)
    assert not [path for path in cache.folder.rglob("*") if path.suffix in (".tar", TEMPORARY, ".claim")]


def test_what_is_not_there_is_said(tmp_path: Path, data_path: Path, cache: ShardCache) -> None:
    with pytest.raises(DistillError, match="name the URL of a packed data set"):
        open_catalog(f"file://{tmp_path}/nothing", cache=cache)
    with pytest.raises(DistillError, match="nosuch"):
        open_catalog("nosuch://bucket/train", cache=cache)
    remote = open_catalog(f"file://{data_path}", cache=cache)
    gone = replace(remote, shards=(replace(remote.shards[0], name="gone.tar"), *remote.shards[1:]))
    with pytest.raises(DistillError, match=r"row 0 .*gone\.tar.*publish it again"):
        ShardReader(gone).read(0)


def test_the_cache_keeps_what_was_read_last_within_its_bound(
    data_path: Path, cache: ShardCache, catalog: Catalog
) -> None:
    sizes = [shard.size_bytes for shard in catalog.shards]
    cache = replace(cache, limit_bytes=sum(sorted(sizes)[-3:]))
    remote = open_catalog(f"file://{data_path}", cache=cache)
    with ShardReader(remote) as shards:
        for shard, start in enumerate(remote.starts[:-1].tolist()):
            for back in (0, shard):  # Shard 0 is opened again and again by fresh readers.
                ShardReader(remote).read(0) if back else shards.read(start)
            os.utime(remote.path / remote.shards[0].name, (time.time() + 100 + shard,) * 2)
            held = shards_in(cache)
            assert sum(path.stat().st_size for path in held) <= cache.limit_bytes
            assert remote.shards[0].name in [path.name for path in held]
            assert remote.shards[shard].name in [path.name for path in held]
        assert shards.read(25)  # Its shard was removed; this reader has it open still.
    with pytest.raises(DistillError, match=r"data\.cache_bytes=10: raise"):
        ShardReader(open_catalog(f"file://{data_path}", cache=replace(cache, limit_bytes=10))).read(30)


def test_a_damaged_cache_is_fetched_again(data_path: Path, cache: ShardCache) -> None:
    remote = open_catalog(f"file://{data_path}", cache=cache)
    right = ShardReader(remote).read(5)
    (path,) = shards_in(cache)
    path.write_bytes(bytes(path.stat().st_size))
    assert ShardReader(remote).read(5) == right


def test_a_dead_processes_claim_and_part_are_cleared_away(
    data_path: Path, cache: ShardCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = open_catalog(f"file://{data_path}", cache=cache)
    claim, part = (remote.path / f"shard-000000.tar.{end}" for end in ("claim", "ffff" + TEMPORARY))
    for path in (claim, part):
        path.touch()
        os.utime(path, (time.time() - 1000,) * 2)
    assert ShardReader(remote).read(0)
    assert not claim.exists() and not part.exists()


def test_the_next_shards_are_fetched_ahead(data_path: Path, cache: ShardCache) -> None:
    remote = open_catalog(f"file://{data_path}", cache=cache)
    ShardReader(remote).fetch_ahead([(0, 20), (60, 61)])
    ended = time.monotonic() + 20
    while len(shards_in(cache)) < 2 and time.monotonic() < ended:
        time.sleep(0.02)
    assert [path.name for path in shards_in(cache)] == ["shard-000000.tar", "shard-000003.tar"]


def _read_all(path: str, cache: ShardCache, results: Any) -> None:
    catalog = open_catalog(path, cache=cache)
    count: list[str] = []
    download = distill.data.remote.Remote._download

    def counted(self: Remote, name: str, *args: Any, **kwargs: Any) -> None:
        count.append(name)
        download(self, name, *args, **kwargs)

    distill.data.remote.Remote._download = counted  # type: ignore[method-assign]
    reader = ShardReader(catalog)
    results.put((sum(len(reader.read(row)) for row in range(len(catalog))), count))


def test_several_processes_share_a_cache(data_path: Path, cache: ShardCache, catalog: Catalog) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_read_all, args=(f"file://{data_path}", cache, results)) for _ in range(4)]
    for process in processes:
        process.start()
    got = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert {total for total, _ in got} == {int(catalog.sizes.sum())}
    fetched = [name for _, names in got for name in names if name.endswith(".tar")]
    assert sorted(fetched) == sorted(shard.name for shard in catalog.shards)  # each once


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "distill"


@pytest.fixture
def s3(s3_bucket: str, data_path: Path) -> str:
    """The data set on a local S3-compatible server."""
    url = f"{s3_bucket}/train"
    fsspec.filesystem("s3").put(str(data_path), url, recursive=True)
    return url


def test_both_passes_run_from_s3(
    s3: str, data_path: Path, teacher_weights: Path, tmp_path: Path, catalog: Catalog
) -> None:
    cached = (f"data.cache={tmp_path / 'cache'}", "data.workers=2")
    store = tmp_path / "t.zarr"
    call("save_logits", [*teacher_arguments(data_path, teacher_weights, store), f"data.path={s3}", *cached])
    words = student_arguments(data_path, tmp_path / "run", f"store.path={store}", "train.batch_size=15")
    call("train_student", [*words, f"data.path={s3}", f"data.val_path={s3}", *cached], views=tmp_path / "d")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["num_images"] == len(catalog)
    local = student_arguments(data_path, tmp_path / "local", f"store.path={store}", "train.batch_size=15")
    call("train_student", local, views=tmp_path / "l")
    assert (tmp_path / "d.rank0").read_text() == (tmp_path / "l.rank0").read_text()
