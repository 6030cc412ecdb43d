"""Changes to valid files, for `fuzz.py`: of bytes, of structures, and of the checksums that would give them away."""

from __future__ import annotations

import hashlib
import json
import random
import re
import struct
from typing import Any

import google_crc32c

from distill.data.catalog_files import _head_checksum
from logitstore.format.layout import json_checksum
from logitstore.format.shard import HEADER_BYTES
from scripts.prove.fuzz_reader import Reader

EXTREME = (0, 1, -1, 127, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**62, 2**63 - 1, 2**64 - 1)
NUMBERS = (*EXTREME, 10**30, 0.5, -0.0, 1e308, 1e-320)
TEXTS = (
    "", ".", "..", "../../x", "/etc/passwd", "a/b", "\x1b[2J", "\x00", "\u202e", "x" * 5000, "${oc.env:HOME}", "木",
    "-1", "null", "hf-hub:a/b", "<script>", "NaN",
)  # fmt: skip


def mutate(reader: Reader, rng: random.Random) -> tuple[str, bytes]:
    """One input of a reader: the name of the file that is changed, and its new bytes."""
    name = rng.choice(sorted(reader.files))
    data = reader.files[name]
    if rng.random() < 0.02:
        return name, data
    if reader.kind in ("json", "yaml", "root", "head", "jsonl") and rng.random() < 0.7:
        return name, _mutated_text(data, reader.kind, rng)
    changed = _mutated_bytes(bytearray(data), reader, rng)
    if reader.kind == "shard" and rng.random() < 0.8:
        return name, _mended_shard(changed, data, rng)
    if reader.kind == "checkpoint" and rng.random() < 0.8:
        body = bytes(changed[:-73])
        return name, body + b"\nsha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
    return name, bytes(changed)


def _mutated_bytes(data: bytearray, reader: Reader, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        if not data:
            break
        # Headers and directories are at the ends.
        at = rng.choice(
            [rng.randrange(len(data)), rng.randrange(min(len(data), 128)), -rng.randrange(1, min(len(data), 200) + 1)]
        )
        at %= len(data)
        match rng.randrange(8):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice([0, 255, 127, 128, rng.randrange(256)])
            case 2:
                del data[at:]
            case 3:
                del data[at : at + rng.randrange(1, 64)]
            case 4:
                data[at:at] = rng.randbytes(rng.randrange(1, 64))
            case 5:
                size = rng.choice([2, 4, 8])
                value = rng.choice(EXTREME) % 2 ** (8 * size)
                data[at : at + size] = value.to_bytes(size, rng.choice(["little", "big"]))
            case 6:
                other = reader.files[rng.choice(sorted(reader.files))]
                begin = rng.randrange(len(other) or 1)
                data[at:] = other[begin:]
            case _:
                digits = list(re.finditer(rb"\d+", bytes(data[:65536])))
                if digits:
                    found = rng.choice(digits)
                    data[found.start() : found.end()] = str(rng.choice(EXTREME)).encode()
    return data


def _mended_shard(changed: bytearray, before: bytes, rng: random.Random) -> bytes:
    """A shard file, whose parts have right checksums again: header, first chunk, index."""
    start = HEADER_BYTES[2]
    if rng.random() < 0.5 or len(changed) < start + 24:  # Only the first chunk is changed, and its sizes are right.
        index = len(before) - 20
        offset, length = struct.unpack_from("<QQ", before, index) if len(before) > start + 20 else (start, 0)
        if offset != start or not 4 < length < len(before):
            return bytes(changed)
        chunk = bytearray(before[start : start + length - 4])
        for _ in range(rng.randrange(1, 6)):
            chunk[rng.randrange(len(chunk)) if rng.random() < 0.5 else rng.randrange(min(32, len(chunk)))] = (
                rng.randrange(256)
            )
        return before[:start] + _with_crc(bytes(chunk)) + before[start + length :]
    header = bytes(changed[: start - 4])
    return _with_crc(header) + bytes(changed[start:-20]) + _with_crc(bytes(changed[-20:-4]))


def _with_crc(data: bytes) -> bytes:
    return data + struct.pack("<I", google_crc32c.value(data))


def _mutated_text(data: bytes, kind: str, rng: random.Random) -> bytes:
    if kind == "yaml":
        import yaml

        tree = yaml.safe_load(data)
    elif kind == "jsonl":
        lines = data.splitlines()
        at = rng.randrange(len(lines))
        lines[at] = _mutated_text(lines[at], "json", rng)
        return b"\n".join(lines)
    else:
        tree = json.loads(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        tree = _mutated_tree(tree, rng)
    if kind == "root" and rng.random() < 0.8 and isinstance(tree, dict) and isinstance(tree.get("attributes"), dict):
        attributes = {name: value for name, value in tree["attributes"].items() if name != "crc32c"}
        tree = {**tree, "attributes": {**attributes, "crc32c": json_checksum(attributes)}}
    if kind == "head" and rng.random() < 0.8 and isinstance(tree, dict):
        head = {name: value for name, value in tree.items() if name != "checksum"}
        tree = {**head, "checksum": _head_checksum(head)}
    text = json.dumps(tree)
    match rng.randrange(12):
        case 0:
            text = "[" * 50_000 + text
        case 1:
            text = text.replace(":", ": &a [*a, *a], x:", 1)
        case 2:
            text = text.replace(
                "1", rng.choice(["NaN", "1e999", "-Infinity", "9" * 5000, "0x1", "!!python/object:os.x"]), 1
            )
        case 3:
            text = text[: rng.randrange(len(text) + 1)]
    return text.encode("utf-8", "surrogatepass")


def _mutated_tree(tree: Any, rng: random.Random) -> Any:
    """One value somewhere in nested lists and dicts is changed, dropped, doubled or moved."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        match rng.randrange(10):
            case 0:
                return {name: value for name, value in tree.items() if name != key}
            case 1:
                return {**tree, rng.choice(TEXTS): tree[key]}
            case _:
                return {**tree, key: _mutated_tree(tree[key], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.9:
        at = rng.randrange(len(tree))
        match rng.randrange(6):
            case 0:
                return tree[:at] + tree[at + 1 :]
            case 1:
                return tree[: at + 1] * 3 + tree[at:]
            case _:
                return [*tree[:at], _mutated_tree(tree[at], rng), *tree[at + 1 :]]
    nested: Any = rng.choice(TEXTS)
    for _ in range(rng.choice([1, 3, 40, 600])):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return rng.choice([rng.choice(NUMBERS), rng.choice(TEXTS), None, True, [], {}, nested, [rng.choice(NUMBERS)] * 100])
