"""`docs/format.md` says what `layout` does, and zarr agrees with both."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import zarr

import logitstore
from logitstore.format.identity import Identity
from logitstore.format.layout import FORMAT_VERSION, LOCK_KEY, arrays, documents, root_attributes
from logitstore.format.shard import HEADER_BYTES, MAGIC

FORMAT = (Path(__file__).parents[3] / "docs" / "format.md").read_text(encoding="utf-8")
SIZES = {
    "E": 3,
    "N": 5000,
    "k": 7,
    "B": 2,
    "R": 4096,
    "I": 4096,
    "G": 9,
    "C": 100,
    "16": 16,
    "1": 1,
    "65536": 65_536,
    "1024": 1024,
}


def spec(encoding, num_classes=100):
    return logitstore.StoreSpec(
        num_samples=5000, num_epochs=3, num_classes=num_classes, topk=7, encoding=encoding, tail_groups=9
    )


def table():
    """Rows of the table of arrays: name, number, shape, file, chunk, type, codecs."""
    lines = re.findall(r"^\| `([a-z/_]+)` \|( \d+ \|.+)\|$", FORMAT, flags=re.M)
    return {name: [cell.strip().replace("`", "") for cell in rest.split("|")] for name, rest in lines}


def codec_text(codecs):
    words = []
    for codec in codecs:
        configuration = codec.get("configuration", {})
        words.append(codec["name"])
        if codec["name"] == "blosc":
            words[-1] += f" {configuration['cname']} {configuration['clevel']} {configuration['shuffle']}"
        elif codec["name"] == "transpose":
            words[-1] += " " + "".join(map(str, configuration["order"]))
    return ", ".join(words)


@pytest.mark.parametrize(("encoding", "column"), [("log8", 0), ("float16", 1)])
def test_the_table_of_arrays(encoding, column):
    layouts = arrays(spec(encoding))
    assert list(table()) == list(layouts)
    for name, (number, shape, file, chunk, dtype, codecs) in table().items():
        layout = layouts[name]
        assert int(number) == layout.number
        assert tuple(SIZES[s] for s in shape.split(", ")) == layout.shape
        assert tuple(SIZES[s] for s in file.split(", ")) == layout.shard_shape
        assert tuple(SIZES[s] for s in chunk.split(", ")) == layout.inner_shape
        types = dtype.split(" / ")
        # The index type depends on the classes, the type of codes on the encoding.
        assert (types[0] if name == "indices" else types[min(column, len(types) - 1)]) == layout.dtype.name
        assert codecs == codec_text(layout.codecs())
    wide = arrays(dataclasses.replace(spec(encoding), topk=33))["indices"]
    assert codec_text(wide.codecs()) == "transpose 201, bytes, blosc zstd 7 bitshuffle, crc32c"
    assert arrays(spec(encoding, 65_535))["indices"].dtype == np.uint16
    assert arrays(spec(encoding, 65_536))["indices"].dtype == np.uint32


def test_other_facts():
    assert f"format version {FORMAT_VERSION}" in FORMAT
    for version in (1, FORMAT_VERSION):
        assert MAGIC[version].decode() in FORMAT
        assert f"{HEADER_BYTES[version]} bytes" in FORMAT
        for name in root_attributes({}, version=version, store_id=1):
            assert f"`{name}`" in FORMAT
    assert f"`{LOCK_KEY}`" in FORMAT
    for name in logitstore.StoreSpec.__dataclass_fields__:
        assert f"`{name}`" in FORMAT


@pytest.mark.parametrize("encoding", ["log8", "float16"])
def test_zarr_would_write_the_same_metadata(tmp_path, encoding):
    ours = documents(spec(encoding), Identity.new(spec(encoding)))
    group = zarr.create_group(tmp_path / "z.zarr")
    for name, layout in arrays(spec(encoding)).items():
        blosc = [
            zarr.codecs.BloscCodec(cname="zstd", clevel=c.level, shuffle=c.shuffle, typesize=c.typesize, blocksize=0)
            for c in [layout.compression]
            if c is not None
        ]
        array = group.create_array(
            name,
            shape=layout.shape,
            chunks=layout.inner_shape,
            shards=layout.shard_shape,
            dtype=layout.dtype,
            fill_value=0,
            filters=[zarr.codecs.TransposeCodec(order=(2, 0, 1))] if layout.transposed else [],
            compressors=[*blosc, zarr.codecs.Crc32cCodec()],
            dimension_names=ours[f"{name}/zarr.json"]["dimension_names"],
        )
        theirs = array.metadata.to_dict()
        for key in ("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "dimension_names"):
            assert _plain(theirs[key]) == ours[f"{name}/zarr.json"][key], (name, key)
        assert _plain(theirs["codecs"]) == ours[f"{name}/zarr.json"]["codecs"], name


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.value if hasattr(value, "value") else value


def test_the_lines_for_plain_zarr_read_what_the_reader_reads(make_store, monkeypatch, tmp_path):
    (code,) = re.findall(r"```python\n(.+?)```", FORMAT, flags=re.S)
    store = logitstore.open(make_store(name="teacher.zarr"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, np.ndarray] = {}
    exec(code, names)
    rows = store.read(epoch=0, rows=slice(0, 4))
    np.testing.assert_allclose(names["probabilities"], np.exp(rows.logprobs), rtol=1e-5)
    np.testing.assert_array_equal(names["done"], store.done())


def test_the_worked_example(tmp_path):
    spec = logitstore.StoreSpec(num_samples=1, num_epochs=1, num_classes=10, topk=4, rows_per_block=1, proof_rows=1)
    path = tmp_path / "one.zarr"
    logitstore.create(path, spec, keys=np.zeros(1, np.uint64), labels=np.zeros(1, np.int32))
    kept = np.log(np.array([[0.5, 0.25, 0.0625, 0.0625]], np.float32))
    with logitstore.writer(path) as writer:
        writer.write(
            0, 0, seeds=np.zeros(1, np.uint64), indices=np.array([[7, 3, 9, 4]]), logprobs=kept,
            tail=np.log(np.array([0.125], np.float32)), proof=1,
        )  # fmt: skip
    group = zarr.open(path, mode="r")
    stored = {name: group[name][0].ravel().tolist() for name in ("indices", "logprobs", "tail")}
    assert stored == {"indices": [7, 3, 4, 5], "logprobs": [6, 5, 11, 0], "tail": [112]}
    rows = logitstore.open(path).read(epoch=0, rows=[0])
    assert rows.indices.tolist() == [[7, 3, 4, 9]]
    decoded = np.exp(rows.logprobs[0])
    np.testing.assert_allclose(decoded, [0.4877, 0.2611, 0.0660, 0.0660], atol=5e-5)
    text = " ".join(FORMAT.split())
    assert "stored 6, 5, 11, 0" in text and "class numbers are stored as 7, 3, 4, 5" in text
    assert "tail code 112" in text and "0.4877, 0.2611, 0.0660, 0.0660." in text
