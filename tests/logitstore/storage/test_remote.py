"""The same store on object storage: in memory, and on an S3-compatible server of our own."""

import importlib
import os
import pickle
import time
import uuid

import numpy as np
import pytest
from click.testing import CliRunner

import logitstore
from logitstore.cli import main
from logitstore.format import blocks
from logitstore.storage import open_storage, remote, remote_files

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["memory", "s3"])
def url(request):
    base = request.getfixturevalue("s3_bucket") if request.param == "s3" else "memory://stores"
    return f"{base}/{uuid.uuid4().hex}/t.zarr"


def test_written_read_and_checked_at_a_url(url, make_spec, rows_for, make_store, content):
    with pytest.raises(logitstore.StoreMissing):
        logitstore.open(url)
    spec = make_spec()
    logitstore.create(url, spec, keys=np.arange(20) * 7, labels=np.arange(20) % 5 - 1)
    with pytest.raises(logitstore.StoreExists):
        logitstore.create(url, spec, keys=np.arange(20), labels=np.zeros(20, int))
    store = logitstore.open(url)
    assert not store.done().any()
    with logitstore.writer(url) as writer:
        for epoch, block in np.argwhere(~store.done()).tolist():
            writer.write(epoch, block, **rows_for(spec, epoch, block))
        with pytest.raises(logitstore.BlockExists):
            writer.write(0, 0, **rows_for(spec, 0, 0))
        writer.write(0, 0, **rows_for(spec, 0, 0), replace=True)
    assert store.done().all()  # The reader was opened before.
    assert content(url) == content(make_store())
    assert logitstore.check(url).ok
    again = pickle.loads(pickle.dumps(store))
    assert again.read(epoch=1, rows=[19, 3, 3]).seeds.tolist() == store.read(epoch=1, rows=[19, 3, 3]).seeds.tolist()
    logitstore.grow(url, epochs=3)
    assert logitstore.open(url).done().sum() == 6


def test_commands_take_urls(url, make_store, content, tmp_path):
    local = make_store()
    run = CliRunner().invoke
    done = run(main, ["copy", str(local), url, "--epochs", "1"])
    assert done.exit_code == 0, done.output
    assert f"{url}: 3 blocks written, none was there, 3 verified" in done.output
    assert run(main, ["copy", str(local), url]).exit_code == 0
    for words in ("info", "show --row 3", "check", "stats", f"diff {local}"):
        result = run(main, [*words.split(), url])
        assert result.exit_code == 0, result.output
    back = tmp_path / "back.zarr"
    assert run(main, ["copy", url, str(back)]).exit_code == 0
    assert content(back) == content(local)
    assert run(main, ["recode", url, url + ".small", "--topk", "2"]).exit_code == 0
    assert logitstore.open(url + ".small").done().all()


def test_zarr_reads_a_store_at_a_url(url, make_store):
    logitstore.copy(make_store(), url)
    store = logitstore.open(url)
    group = store.zarr()
    for epoch in range(2):
        np.testing.assert_array_equal(group["seeds"][epoch], store.read(epoch=epoch, rows=slice(None)).seeds)
    np.testing.assert_array_equal(group["samples/keys"][:], store.keys(slice(None)))
    assert (group["proofs"][:] != 0).all()


def test_damage_is_detected_and_repaired_at_a_url(url, make_store, monkeypatch):
    monkeypatch.setattr(importlib.import_module("logitstore.tools.repair"), "PAUSES_S", (0.01,) * 4)
    monkeypatch.setattr(blocks, "_DOUBT_PAUSE_S", 0.01)
    logitstore.copy(make_store(), url)
    storage = open_storage(url)
    data = storage.read("tail/c/0/1")
    storage.write("tail/c/0/1", data[:-3] + b"xyz")
    storage.delete("seeds/c/1/2")
    with pytest.raises(logitstore.DamagedBlock, match="array tail, epoch 0, block 1"):
        logitstore.open(url).read(epoch=0, rows=9)
    assert [fault.id for fault in logitstore.check(url).faults] == ["damaged-block"] * 2
    assert logitstore.repair(url).dropped == ((0, 1), (1, 2))
    assert {fault.id for fault in logitstore.check(url).faults} == {"missing-blocks"}


def test_a_create_that_dies_leaves_no_store_and_can_be_done_again(url, make_spec, monkeypatch):
    write = remote.RemoteStorage.write

    def dying(self, key, data):
        if key == "zarr.json":
            raise KeyboardInterrupt
        write(self, key, data)

    columns = {"keys": np.arange(20), "labels": np.zeros(20, int)}
    with monkeypatch.context() as patch:
        patch.setattr(remote.RemoteStorage, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            logitstore.create(url, make_spec(), **columns)
    with pytest.raises(logitstore.NotAStore):
        logitstore.open(url)
    logitstore.create(url, make_spec(), **columns)
    assert logitstore.open(url).spec == make_spec()


def test_two_writes_mixed_by_writers_without_a_lock_are_detected(make_store, rows_for):
    url = f"memory://stores/{uuid.uuid4().hex}/t.zarr"
    logitstore.copy(make_store(), url)
    before = open_storage(url).read("tail/c/0/1")
    with logitstore.writer(url) as writer:
        writer.write(0, 1, **rows_for(writer.spec, 0, 1), replace=True)
    open_storage(url).write("tail/c/0/1", before)
    with pytest.raises(logitstore.DamagedBlock, match="different writes"):
        logitstore.open(url).read(epoch=0, rows=9)


def test_only_the_chunks_that_are_needed_are_fetched(monkeypatch):
    spec = logitstore.StoreSpec(num_samples=16_384, num_epochs=1, num_classes=1000, topk=20, rows_per_block=16_384)
    url = f"memory://stores/{uuid.uuid4().hex}/t.zarr"
    logitstore.create(url, spec, keys=np.arange(16_384), labels=np.zeros(16_384, int))
    rng = np.random.default_rng(0)
    with logitstore.writer(url) as writer:
        indices = rng.permuted(np.tile(np.arange(1000), (16_384, 1)), axis=1)[:, :20]
        masses = 0.5 ** np.arange(1, 21)
        logprobs = np.tile(np.log(0.5 * masses / masses.sum()), (16_384, 1)).astype(np.float32)
        tail = np.full(16_384, np.log(0.5), np.float32)
        writer.write(0, 0, seeds=np.arange(16_384), indices=indices, logprobs=logprobs, tail=tail, proof=1)
    fetched = []
    driver = type(fsspec.filesystem("memory"))
    cat = driver.cat_file
    monkeypatch.setattr(driver, "cat_file", lambda *a, **k: fetched.append(cat(*a, **k)) or fetched[-1])
    rows = logitstore.open(url).read(epoch=0, rows=[7000, 7001])
    np.testing.assert_array_equal(rows.indices, indices[7000:7002])
    size = open_storage(url).file_size("indices/c/0/0/0")
    assert size > 300_000
    assert sum(map(len, fetched)) < 0.4 * size


def test_an_address_that_does_not_answer_is_no_damage(s3_bucket, make_store, monkeypatch):
    url = f"{s3_bucket}/{uuid.uuid4().hex}/t.zarr"
    logitstore.copy(make_store(), url)
    store = logitstore.open(url)
    driver, _ = store.storage.files.filesystem()

    def unreachable(*args, **more):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(driver, "cat_file", unreachable)
    monkeypatch.setattr(remote_files, "sleep", lambda seconds: None)
    for read in (
        lambda: store.read(epoch=0, rows=0),
        lambda: logitstore.open(url),
        lambda: logitstore.repair(url),
    ):
        with pytest.raises(logitstore.StoreUnreachable, match=r"cannot be reached .*run the same command again"):
            read()


def test_a_scheme_nobody_knows():
    with pytest.raises(logitstore.StoreError, match="nonsense"):
        logitstore.open("nonsense://bucket/t.zarr")


def test_a_forked_reader_reads_from_s3(s3_bucket, make_store):
    url = f"{s3_bucket}/{uuid.uuid4().hex}/t.zarr"
    logitstore.copy(make_store(), url)
    store = logitstore.open(url)
    expected = store.read(epoch=0, rows=5).seeds.tolist()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if store.read(epoch=0, rows=5).seeds.tolist() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Faulty:
    """A file system that fails, is slow or returns too few bytes in its first `faults` reads."""

    def __init__(self, files, *, faults, kind="error"):
        self.files, self.faults, self.kind, self.reads = files, faults, kind, 0

    def info(self, path):
        return self.files.info(path)

    def cat_file(self, path, **bounds):
        self.reads += 1
        data = self.files.cat_file(path, **bounds)
        if self.reads > self.faults:
            return data
        if self.kind == "error":
            raise ConnectionResetError("connection lost")
        if self.kind == "slow":
            time.sleep(0.5)
        return data[:-1] if self.kind == "short" else data


@pytest.fixture
def faulty(monkeypatch):
    """`RemoteFiles` of a folder in memory that holds `a` (10 bytes), whose reads are faulty as told."""
    root = f"/faulty/{uuid.uuid4().hex}"
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"{root}/a", b"0123456789")
    slept = []
    monkeypatch.setattr(remote_files, "sleep", slept.append)

    def make(**faults):
        files = remote_files.RemoteFiles(f"memory:/{root}/", retries=3, timeout=0.1, pause=4.0)
        driver = Faulty(memory, **faults)
        monkeypatch.setattr(files, "filesystem", lambda: (driver, root))
        return files, driver, slept

    return make


@pytest.mark.parametrize("kind", ["error", "slow", "short"])
def test_a_read_that_fails_is_tried_again_after_growing_pauses(faulty, kind):
    files, driver, slept = faulty(faults=3, kind=kind)
    tries = []
    assert files.read_range("a", 2, 8, on_try=lambda: tries.append(1)) == b"234567"
    assert driver.reads == len(tries) == 4
    assert slept == [4.0, 8.0, 16.0]
    if kind != "short":  # The size of a whole file is not known.
        assert faulty(faults=3, kind=kind)[0].read("a") == b"0123456789"


@pytest.mark.parametrize(
    ("kind", "message"),
    [("error", "ConnectionResetError: connection lost"), ("slow", "no answer within 0.1 s"), ("short", "5 came")],
)
def test_after_the_last_try_the_error_names_file_and_cause(faulty, kind, message):
    files, driver, _ = faulty(faults=99, kind=kind)
    with pytest.raises(logitstore.StoreUnreachable, match=rf"/a cannot be reached in 4 tries .*{message}") as caught:
        files.read_range("a", 2, 8)
    assert isinstance(caught.value.__cause__, OSError)
    assert driver.reads == 4


def test_what_is_absent_or_forbidden_is_not_tried_again(faulty):
    files, _, slept = faulty(faults=0)
    for read in (files.read, files.size, lambda name: files.read_range(name, 0, 1)):
        with pytest.raises(FileNotFoundError):
            read("b")

    def forbidden(driver, path):
        raise PermissionError(13, "not yours")

    for work in (files.retry, files.once):
        with pytest.raises(PermissionError):
            work("a", forbidden)
    assert slept == []
    assert files.size("a") == 10


def test_long_ranges_are_read_in_pieces(faulty, monkeypatch):
    files, driver, _ = faulty(faults=1)
    monkeypatch.setattr(remote_files, "PIECE_BYTES", 3)
    assert files.read_range("a", 1, 9) == b"12345678"
    assert driver.reads == 4  # Three pieces, the first of them twice.
    assert files.read_range("a", 5, 5) == b""


def test_a_store_reads_through_faults(make_store, content, monkeypatch):
    url = f"memory://stores/{uuid.uuid4().hex}/t.zarr"
    path = make_store()
    logitstore.copy(path, url)
    expected = content(path)
    driver = type(fsspec.filesystem("memory"))
    read, reads = driver.cat_file, []

    def every_third_fails(self, *args, **more):
        reads.append(1)
        if len(reads) % 3 == 0:
            raise ConnectionResetError("connection lost")
        return read(self, *args, **more)

    monkeypatch.setattr(driver, "cat_file", every_third_fails)
    monkeypatch.setattr(remote_files, "sleep", lambda seconds: None)
    assert content(url) == expected


def test_within():
    assert remote_files.within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        remote_files.within(5, lambda: 1 // 0)
    with pytest.raises(TimeoutError):
        remote_files.within(0.01, lambda: time.sleep(0.5))


def test_files_of_a_url_can_be_pickled():
    files = remote_files.RemoteFiles("memory://stores/x", retries=2, timeout=3.0, pause=4.0)
    files.filesystem()
    again = pickle.loads(pickle.dumps(files))
    assert (again.url, again.retries, again.timeout, again.pause) == ("memory://stores/x", 2, 3.0, 4.0)
    assert again.filesystem()[1] == files.filesystem()[1]


def test_a_bucket_that_is_not_there(s3_bucket, make_store):
    gone = f"{s3_bucket}-that-is-not-there/t.zarr"
    with pytest.raises(logitstore.StoreMissing, match="does not exist"):
        logitstore.open(gone)
    with pytest.raises(logitstore.StoreError, match="make the bucket first"):
        logitstore.copy(make_store(), gone)
