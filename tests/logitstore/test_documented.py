"""The lines in the docstrings of the package and of `Store.zarr` do what they say."""

import textwrap

import numpy as np

import logitstore


def code(docstring: str, begin: str, end: str) -> str:
    """The lines of a docstring from the one that begins with `begin` to the one before `end`."""
    lines = textwrap.dedent(docstring).splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip().startswith(begin))
    last = next((n for n in range(first, len(lines)) if end and lines[n].strip().startswith(end)), len(lines))
    return textwrap.dedent("\n".join(lines[first:last]))


def test_a_store_is_filled_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels, keys = np.arange(50) % 3, np.arange(50)
    calls = []

    def teacher(rows, seeds):
        calls.append(rows)
        assert len(seeds) == len(rows)
        return np.random.default_rng(rows.start).normal(size=(len(rows), 1000)).astype(np.float32)

    names = {"logitstore": logitstore, "np": np, "keys": keys, "labels": labels, "teacher": teacher}
    fill = (
        code(logitstore.__doc__, "spec =", "end")
        .replace("50_000", "50")
        .replace("topk=10,", "topk=10, rows_per_block=16,")
    )
    exec(fill, names)
    assert len(calls) == 2 * 4
    exec(fill, names)
    assert len(calls) == 2 * 4
    assert logitstore.check("teacher.zarr").ok
    exec(code(logitstore.__doc__, "store =", "Fill"), names)
    assert names["views"].indices.shape == (50, 10)
    assert names["names"].class_name(0) is None


def test_the_zarr_group(make_store, monkeypatch, tmp_path):
    store = logitstore.open(make_store(name="teacher.zarr"))
    monkeypatch.chdir(tmp_path)
    names = {"logitstore": logitstore}
    exec(code(logitstore.Store.zarr.__doc__, "group =", "dask"), names)
    np.testing.assert_array_equal(names["written"], store.done())
    np.testing.assert_array_equal(names["seeds"], store.read(epoch=0, rows=slice(None)).seeds)
