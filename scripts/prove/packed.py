"""Proof that packed data is never silently wrong: random damage to shards and catalog, on disk and in the cache.

    python scripts/prove/packed.py runs/packed --corruptions 500

WORK is a folder for the data sets, which must not exist. Every row is read through the product's reader after each
damage: it gives the right key, label and bytes, or one error. Exits with 1 otherwise. Takes a minute on one core.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import click
import cv2
import numpy as np

from distill.data.catalog import open_catalog
from distill.data.catalog_files import FILES, _head_checksum
from distill.data.packing.pack import pack
from distill.data.remote import ShardCache
from distill.data.shards import ShardReader
from distill.errors import DistillError

Content = list[tuple[str, str, bytes]]
"""Key, class name and bytes of each row."""
Saved = dict[Path, bytes | None]
"""Files as they were before the damage; None for one that was not there."""
KINDS = (
    "flip bits", "truncate", "extend", "zero a range", "delete", "swap files", "foreign file", "foreign catalog",
    "old catalog", "array header", "head",
)  # fmt: skip
PLACES = ("disk", "source", "cache")
"""A data set on disk; a remote one damaged at its source, before anything was fetched; one damaged in the cache."""


def make(folder: Path, *, seed: int) -> None:
    """A packed data set of 60 images in 3 classes and 4 shards."""
    rng = np.random.default_rng(seed)
    for number in range(60):
        path = folder.with_suffix(".images") / "abc"[number % 3] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (12, 12, 3), np.uint8))
    pack(folder.with_suffix(".images"), folder, rows_per_shard=16, seed=seed)


def content(path: str, *, cache: ShardCache | None) -> Content:
    """Every row. **Raises:** `DistillError`."""
    catalog = open_catalog(path, cache=cache)
    with ShardReader(catalog) as shards:
        return [
            (catalog.key(row), catalog.class_names[int(catalog.labels[row])], shards.read(row))
            for row in range(len(catalog))
        ]


def damage(path: Path, *, other: Path, old: Path, rng: random.Random) -> tuple[str, Saved]:
    """Damages a data set at random; old: its catalog as it was, with other labels. **Returns** the kind, and the files
    as they were."""
    kind = rng.choice(KINDS)
    names = sorted(p for p in path.rglob("*") if p.is_file())
    if kind in ("foreign catalog", "old catalog"):
        source = other if kind == "foreign catalog" else old
        targets = [path / "catalog" / name for name in (*FILES, "catalog.json")]
        some = targets if rng.random() < 0.5 else rng.sample(targets, rng.randrange(1, len(targets)))
        saved: Saved = {target: target.read_bytes() for target in some}
        for target in some:
            shutil.copy(source / "catalog" / target.name, target)
        return f"{kind} {'whole' if len(some) == len(targets) else 'in part'}", saved
    target = rng.choice(names)
    if kind in ("array header", "head"):
        target = path / "catalog" / ("catalog.json" if kind == "head" else rng.choice(FILES[1:]))
    saved = {target: target.read_bytes()}
    data = bytearray(saved[target] or b"")
    if kind == "delete":
        target.unlink()
        return kind, saved
    if kind == "foreign file":
        shutil.copy(other / target.relative_to(path), target)
        return kind, saved
    if kind == "swap files":
        second = rng.choice([p for p in names if p != target])
        saved[second] = second.read_bytes()
        target.write_bytes(saved[second] or b"")
        second.write_bytes(data)
        return kind, saved
    target.write_bytes(_forged_head(data, rng) if kind == "head" else _changed(data, kind, rng))
    return kind, saved


def _forged_head(data: bytearray, rng: random.Random) -> bytes:
    """A head with other numbers or names and a right checksum: the other files must contradict it."""
    head = json.loads(data)
    head.pop("checksum", None)
    shard = rng.choice(head["shards"])
    change = rng.choice(["rows", "size", "name", "classes", "samples", "checksums"])
    if change == "rows":
        shard["num_rows"] = rng.choice([0, -1, 1, shard["num_rows"] + 1, 10**12])
    elif change == "size":
        shard["size_bytes"] = rng.choice([0, 512, 2**60, -1])
    elif change == "name":
        shard["name"] = rng.choice(
            ["../x.tar", "/etc/passwd", "shard-000001.tar", "", "\x1b", head["shards"][0]["name"]]
        )
    elif change == "classes":
        head["class_names"] = head["class_names"][:2]
    elif change == "samples":
        head["num_samples"] = rng.choice([0, 59, 61, 10**15])
    else:
        head["checksums"] = dict.fromkeys(head["checksums"], "0" * 32)
    return json.dumps({**head, "checksum": _head_checksum(head)}).encode()


def _changed(data: bytearray, kind: str, rng: random.Random) -> bytes:
    if kind in ("flip bits", "array header"):
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(128 if kind == "array header" else len(data))] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del data[rng.randrange(len(data)) :]
    elif kind == "extend":
        data += rng.randbytes(rng.randrange(1, 64))
    else:
        first = rng.randrange(len(data))
        data[first : first + 64] = bytes(len(data[first : first + 64]))
    return bytes(data)


def prove(work: Path, number: int, rng: random.Random) -> dict[str, int]:
    """Damages, reads and restores data sets many times. **Returns** how often each outcome occurred."""
    good, other, old = work / "good", work / "other", work / "old"
    make(good, seed=1)
    make(other, seed=2)
    shutil.copytree(work / "good.images", work / "old.images")
    (work / "old.images/a/000.png").replace(work / "old.images/b/000.png")
    pack(work / "old.images", old, rows_per_shard=16, seed=1)
    expected = content(str(good), cache=None)
    cache = ShardCache(folder=work / "cache", retries=0, pause=0.01)
    results: Counter[str] = Counter()
    with click.progressbar(range(number), label="corruptions", file=sys.stderr) as bar:
        for _ in bar:
            place = rng.choice(PLACES)
            shutil.rmtree(cache.folder, ignore_errors=True)
            url = str(good) if place == "disk" else f"file://{good}"
            target = good
            if place == "cache":
                content(url, cache=cache)
                (target,) = cache.folder.iterdir()
            kind, saved = damage(target, other=other, old=old, rng=rng)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    found: Content | None = content(url, cache=cache)
            except DistillError:
                found = None
            if found is None:
                results[f"{place}: detected"] += 1
            elif found != expected:
                results[f"{place}: WRONG content"] += 1
                click.echo(f"wrong content after: {place} {kind} {[p.name for p in saved]}")
            else:
                results[f"{place}: without effect, or fetched anew"] += 1
            for file, data in saved.items():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data or b"")
    assert content(str(good), cache=None) == expected
    return dict(results)


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--corruptions", default=500, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the counts to a file.")
def main(work: Path, corruptions: int, seed: int, json_file: Path | None) -> None:
    """Runs the proof in WORK, a folder that must not exist."""
    work.mkdir(parents=True)
    counts = prove(work, corruptions, random.Random(seed))
    for outcome, count in sorted(counts.items()):
        click.echo(f"  {count:6,}  {outcome}")
    wrong = sum(count for outcome, count in counts.items() if re.search("[A-Z]{4}", outcome))
    click.echo("nothing was silently wrong" if not wrong else f"{wrong} times WRONG")
    if json_file is not None:
        json_file.write_text(json.dumps(counts, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
