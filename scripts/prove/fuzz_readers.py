"""The readers that `fuzz.py` tries, with valid files made by the product itself: stores, data, images, archives."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import logitstore
from distill.data.catalog import open_catalog
from distill.data.packing.listing import list_source
from distill.data.packing.pack import pack
from distill.data.shards import ShardReader
from distill.errors import DamagedImage
from distill.views.decode import EncodedImage, decode, decode_rgba
from logitstore.tools.import_tinyvit import import_tinyvit
from logitstore.topk import select_topk
from scripts.prove.fuzz_reader import Reader, in_place
from scripts.prove.fuzz_run_readers import run_readers


def make_readers(valid: Path) -> list[Reader]:
    """All readers. `valid` is a folder for valid data, which must not exist."""
    valid.mkdir(parents=True)
    return [*_stores(valid), *_packed(valid), *_images(), *_archives(valid), *run_readers(valid)]


def _stores(valid: Path) -> list[Reader]:
    path = valid / "t.zarr"
    spec = logitstore.StoreSpec(
        num_samples=20, num_epochs=2, num_classes=30, topk=5, rows_per_block=16, tail_groups=2,
        teacher={"class_names": [f"class {n}" for n in range(30)]}, data={"class_names": list("abcde")},
    )  # fmt: skip
    model = logitstore.TailModel(groups=np.arange(30) % 2, logprobs=np.full((2, 30), -np.log(30), np.float32))
    logitstore.create(path, spec, keys=np.arange(20), labels=np.arange(20) % 5, tail_model=model)
    with logitstore.writer(path) as writer:
        for epoch, block in writer.missing():
            n = len(spec.block_rows(block))
            logits = np.random.default_rng([epoch, block]).normal(size=(n, 30)).astype(np.float32) * 4
            indices, logprobs, tail = select_topk(logits, k=5)
            writer.write(
                epoch,
                block,
                seeds=np.arange(n, dtype=np.uint64),
                indices=indices,
                logprobs=logprobs,
                tail=tail,
                proof=1,
            )
    (path / "proofs/writer.lock").unlink()
    old = Path(__file__).parents[2] / "tests/logitstore/golden/v1-hybrid.zarr"

    def use(copy: Path) -> None:
        errors = []
        for work in (_check, _read_rows, _describe, _copy_store):
            try:
                work(copy)
            except logitstore.StoreError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    files = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    shards = {name: data for name, data in files.items() if "/c/" in name}
    documents = {name: data for name, data in files.items() if name.endswith("/zarr.json")}
    old_files = {str(p.relative_to(old)): p.read_bytes() for p in old.rglob("*") if p.is_file()}
    return [
        Reader(name="store root", kind="root", files={"zarr.json": files["zarr.json"]}, read=in_place(path, use)),
        Reader(name="store arrays' metadata", kind="json", files=documents, read=in_place(path, use)),
        Reader(name="store shards", kind="shard", files=shards, read=in_place(path, use)),
        Reader(name="store of version 1", kind="bytes", files=old_files, read=in_place(old, use)),
        Reader(name="imported logits", kind="bytes", files=_published(valid), read=in_place(valid / "logits", _import)),
    ]


def _check(path: Path) -> None:
    logitstore.check(path).to_json()


def _read_rows(path: Path) -> None:
    store = logitstore.open(path)
    for epoch in range(min(store.spec.num_epochs, 3)):
        rows = store.read(epoch=epoch, rows=range(min(store.spec.num_samples, 16)))
        rows.dense()
    store.keys(range(min(store.spec.num_samples, 16)))
    store.labels(range(min(store.spec.num_samples, 16)))
    store.tail_model()


def _describe(path: Path) -> None:
    from logitstore.tools.describe import describe_row, describe_store
    from logitstore.tools.stats import statistics

    store = logitstore.open(path)
    json.dumps(describe_store(store))
    json.dumps(describe_row(store, epoch=0, row=0))
    json.dumps(statistics(store, blocks=2))


def _copy_store(path: Path) -> None:
    try:
        logitstore.copy(path, path.with_name("new.zarr"))
    finally:
        shutil.rmtree(path.with_name("new.zarr"), ignore_errors=True)


def _published(valid: Path) -> dict[str, bytes]:
    folder = valid / "logits/logits_top2_epoch0"
    folder.mkdir(parents=True)
    (folder / "rank0-keys.txt").write_text("n01/a.jpg\nn01/b.jpg\n")
    records = [(1234, [3, 1], [0.5, 0.25]), (-99, [2, 7], [0.75, 0.125])]
    record = [("seed", "<i4"), ("indices", "<i2", 2), ("values", "<f2", 2)]
    np.array(records, record).tofile(folder / "rank0-values.bin")
    return {f"{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}


def _import(source: Path) -> None:
    target = source.with_name("imported.zarr")
    try:
        import_tinyvit(source, target, num_classes=8)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _photograph(seed: int = 0, side: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side + 10, 3), np.uint8)


def _packed(valid: Path) -> list[Reader]:
    for number in range(12):
        path = valid / "images" / "abc"[number % 3] / f"{number}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), _photograph(number))
    pack(valid / "images", valid / "packed", rows_per_shard=5)
    files = {f"catalog/{p.name}": p.read_bytes() for p in (valid / "packed/catalog").iterdir()}
    shards = {p.name: p.read_bytes() for p in (valid / "packed").glob("*.tar")}

    def use(copy: Path) -> None:
        catalog = open_catalog(copy)
        with ShardReader(catalog) as reader:
            for row in range(len(catalog)):
                catalog.key(row)
                EncodedImage(reader.read(row)).pixels()

    head = {"catalog/catalog.json": files.pop("catalog/catalog.json")}
    reader = in_place(valid / "packed", use)
    return [
        Reader(name="catalog head", kind="head", files=head, read=reader),
        Reader(name="catalog arrays", kind="bytes", files=files, read=reader),
        Reader(name="tar shards", kind="bytes", files=shards, read=reader),
    ]


def _images() -> list[Reader]:
    image = Image.fromarray(_photograph())
    files = {}
    for kind, options in {
        "JPEG": {}, "PNG": {}, "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}, "PPM": {},
    }.items():  # fmt: skip
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[kind] = buffer.getvalue()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", progressive=True)
    files["progressive"] = buffer.getvalue()

    def use(folder: Path, name: str, data: bytes) -> None:
        with contextlib.suppress(DamagedImage):
            encoded = EncodedImage(data)
            encoded.pixels(rows=9)
            if encoded.is_jpeg:
                encoded.pixels(factor=2)
        with contextlib.suppress(DamagedImage):
            decode_rgba(data)
        decode(data)

    return [Reader(name="images", kind="bytes", files=files, read=use)]


def _archives(valid: Path) -> list[Reader]:
    images = sorted((valid / "images").rglob("*.jpg"))
    tar, outer, zipped = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        for path in images:
            file.add(path, f"a/{path.name}")
    with tarfile.open(fileobj=outer, mode="w") as file:
        for name in ("n01440764.tar", "n01443537.tar"):
            info = tarfile.TarInfo(name)
            info.size = len(tar.getvalue())
            file.addfile(info, io.BytesIO(tar.getvalue()))
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in images:
            archive.write(path, f"a/{path.name}")

    def use(folder: Path, name: str, data: bytes) -> None:
        path = folder / name
        path.write_bytes(data)
        listing = list_source(path)
        for n in range(min(len(listing.keys), 50)):
            with contextlib.suppress(DamagedImage):
                listing.images.read(n, os.fsdecode(listing.keys[n]))

    files = {"x.tar": tar.getvalue(), "outer.tar": outer.getvalue(), "x.zip": zipped.getvalue()}
    return [Reader(name="archives", kind="bytes", files=files, read=use)]
