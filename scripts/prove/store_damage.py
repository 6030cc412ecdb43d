"""Random damage to a store, for the proof `store.py`: what disks, copies and people do to files.

Bits flip, files are cut, exchanged or lost; files, blocks and metadata of another store, or of an earlier state of this
one, come into their place; frames of compressed chunks state other sizes than they have, under a good checksum.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import google_crc32c

from logitstore.format.layout import BLOCK_FILES
from logitstore.format.shard import HEADER_BYTES
from logitstore.spec import StoreSpec

Saved = dict[Path, bytes | None]
"""Files as they were before the damage; None for one that was not there."""
OF_FILES = ("flip bits", "truncate", "extend", "zero a range", "delete", "swap files", "foreign file", "old file")
OF_BLOCKS = ("foreign block", "old block", "foreign marker", "old marker", "frame")
FOREIGN_FOLDERS = ("samples", "tail_model", "seeds", "proofs")


def damage(path: Path, *, other: Path, old: Path, spec: StoreSpec, rng: random.Random) -> tuple[str, Saved]:
    """Damages a store's files at random.

    **Arguments** other: another store of the same shape; old: a copy of this one, before its blocks were written anew.

    **Returns** the kind of damage, and the files as they were.
    """
    kind = rng.choice([*OF_FILES, *OF_BLOCKS, "foreign folder", "foreign root"])
    if kind in OF_BLOCKS:
        return kind, _damage_block(path, kind, other=other, old=old, spec=spec, rng=rng)
    if kind == "foreign root":
        return kind, _replace([path / "zarr.json"], path, other)
    if kind == "foreign folder":
        folder = rng.choice(FOREIGN_FOLDERS)
        return f"foreign {folder}", _replace([p for p in (path / folder).rglob("*") if p.is_file()], path, other)
    names = sorted(p for p in path.rglob("*") if p.is_file() and p.name != "writer.lock")
    target = rng.choice(names)
    if kind == "swap files":
        return _swap(path, target, names, rng)
    if kind in ("foreign file", "old file"):
        return kind, _replace([target], path, other if kind == "foreign file" else old)
    saved: Saved = {target: target.read_bytes()}
    if kind == "delete":
        target.unlink()
    else:
        target.write_bytes(_changed(bytearray(saved[target] or b""), kind, rng))
    return kind, saved


def undo(saved: Saved) -> None:
    for target, data in saved.items():
        if data is None:
            target.unlink()
        else:
            target.write_bytes(data)


def _changed(data: bytearray, kind: str, rng: random.Random) -> bytearray:
    if kind == "flip bits":
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del data[rng.randrange(len(data)) :]
    elif kind == "extend":
        data += rng.randbytes(rng.randrange(1, 64))
    else:
        first = rng.randrange(len(data))
        data[first : first + 16] = bytes(len(data[first : first + 16]))
    return data


def _swap(path: Path, target: Path, names: list[Path], rng: random.Random) -> tuple[str, Saved]:
    part = target.relative_to(path).parts[0]
    same_array = [p for p in names if p != target and p.relative_to(path).parts[0] == part]
    second = rng.choice(same_array if same_array and rng.random() < 0.8 else [p for p in names if p != target])
    saved: Saved = {target: target.read_bytes(), second: second.read_bytes()}
    target.write_bytes(saved[second] or b"")
    second.write_bytes(saved[target] or b"")
    return f"swap {part}", saved


def _replace(targets: list[Path], path: Path, source: Path) -> Saved:
    saved: Saved = {target: target.read_bytes() for target in targets}
    for target in targets:
        target.write_bytes((source / target.relative_to(path)).read_bytes())
    return saved


def _damage_block(path: Path, kind: str, *, other: Path, old: Path, spec: StoreSpec, rng: random.Random) -> Saved:
    epoch, block = rng.randrange(spec.num_epochs), rng.randrange(spec.num_blocks)
    files = {name: path / f"{name}/c/{epoch}/{block}" for name in BLOCK_FILES}
    for name in ("indices", "logprobs"):
        files[name] /= "0"
    if kind.endswith("block"):
        return _replace(list(files.values()), path, other if kind == "foreign block" else old)
    if kind.endswith("marker"):
        return _replace([files["proofs"]], path, other if kind == "foreign marker" else old)
    target = files[rng.choice(["seeds", "indices", "logprobs", "tail"])]
    before = target.read_bytes()
    start = HEADER_BYTES[2]
    (length,) = struct.unpack_from("<I", before, start + 12)
    frame = bytearray(before[start : start + length])
    at = rng.choice([4, 8, 12])  # Uncompressed bytes, bytes of a block, bytes of the frame.
    frame[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 2**31 - 1, 2**32 - 1, length, rng.randrange(2**32)]))
    checked = bytes(frame) + struct.pack("<I", google_crc32c.value(bytes(frame)))
    target.write_bytes(before[:start] + checked + before[start + len(checked) :])
    return {target: before}
