"""Files of named tensors: reading without running code from the file, and writing.

First step of loading weights and last step of saving them; the layout of the names is recognised by
`distill.models.weights.layouts`.
"""

from __future__ import annotations

import collections
import hashlib
import json
import math
import os
import pickle
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from distill.models.atomic import replacing
from distill.models.errors import WeightsError

MAX_HEADER_BYTES = 16 * 2**20
"""The largest header of a safetensors file that is read. One with 21,841 class names has less than 1 MB."""
WRAPPERS = ("model", "state_dict", "module", "model_ema", "state_dict_ema", "ema")
PREFIXES = ("module.", "_orig_mod.")


def read_tensors(path: str | Path, *, entry: str | None = None) -> dict[str, Tensor]:
    """Reads the state dict in a `.safetensors` file or a file of `torch.save`, onto the CPU.

    **Arguments**

    - `entry`: of a dict in a `torch.save` file, the entry that holds the state dict, such as `model_ema` for EMA
      weights. None: the first one present of `WRAPPERS`, so raw weights come before EMA weights. Other entries are
      ignored.

    **Returns** the tensors by name, without the prefixes that distributed and compiled modules add to all of them.

    **Raises** WeightsError where the file is missing, damaged or holds no state dict.
    """
    path = Path(path)
    _require_file(path)
    if path.suffix == ".safetensors":
        if entry is not None:
            raise WeightsError(f"{path} has no entries to choose from: a safetensors file holds one state dict")
        try:
            _require_small_header(path)
            tensors = _strip_prefixes(safetensors.torch.load_file(path, device="cpu"))
        except (safetensors.SafetensorError, OSError) as error:
            raise WeightsError(f"cannot read {path} as safetensors: {error}") from error
    else:
        tensors = _strip_prefixes(_unwrap(_entry(_load_pickled(path), entry, path), path))
    require_finite(tensors, where=path)
    return tensors


def require_finite(tensors: Mapping[str, Tensor], *, where: str | Path) -> None:
    """**Raises** WeightsError where a tensor holds a value that is infinite or not a number, which would make every
    output NaN. (Masks hold minus infinity by right.)"""
    if names := not_finite(tensors):
        raise WeightsError(
            f"{len(names)} of the {len(tensors)} tensors of {where} hold values that are not finite, the first is "
            f"{names[0]}: these weights are of a training that has diverged, or damaged"
        )


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the floating-point tensors, but for masks, that hold values that are infinite or not a number."""
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()}
    return [name for name, tensor in floating.items() if not name.endswith("mask") and not tensor.isfinite().all()]


def write_tensors(tensors: Mapping[str, Tensor], path: Path, *, metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file, which appears under its name only when it is complete; an existing one is replaced.

    The same tensors and metadata give the same bytes, so a teacher or student that is made again has the same SHA-256,
    which stores and model cards record.

    **Raises** WeightsError where writing fails.
    """
    require_finite(tensors, where=f"the network that is to be written to {path}")
    try:
        with replacing(path) as partial:
            safetensors.torch.save_file(dict(tensors), partial, metadata=dict(metadata))
            with partial.open("rb+") as file:
                _sort_metadata(file)
                file.flush()
                os.fsync(file.fileno())
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"cannot write weights to {path}: {error}") from error


def read_header(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors. **Raises** WeightsError for any other file."""
    path = Path(path)
    _require_file(path)
    try:
        _require_small_header(path)
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"cannot read {path} as safetensors: {error}") from error


def stored_numbers(path: str | Path) -> int:
    """How many numbers the tensors of a safetensors file hold, by its header. **Raises** WeightsError."""
    read_header(path)
    with safetensors.safe_open(Path(path), framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - no mapping


def _require_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise WeightsError(f"no weights file at {path}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise WeightsError(f"no weights file at {path}: it is no regular file")


def _require_small_header(path: Path) -> None:
    with path.open("rb") as file:
        size_bytes = int.from_bytes(file.read(8), "little")
    if size_bytes > min(MAX_HEADER_BYTES, path.stat().st_size):
        raise WeightsError(f"cannot read {path} as safetensors: its header says that it has {size_bytes} bytes")


def file_sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 over name, dtype, shape and values of every tensor, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sort_metadata(file: BinaryIO) -> None:
    """Sorts the metadata of a safetensors file by key, in place.

    The library sorts tensors but writes metadata in a random order. The format is eight bytes with the length of a JSON
    header, that header padded with spaces, then the bytes of the tensors.
    """
    size_bytes = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size_bytes))
    metadata = header.pop("__metadata__", {})
    ordered = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode().ljust(size_bytes)
    if len(text) == size_bytes:  # a longer header would overwrite tensors; the order then stays the library's
        file.seek(8)
        file.write(text)


class _Inert:
    """Replaces every foreign class or function that a pickle names: calling it returns an empty dict.

    An OrderedDict, because torch's restricted unpickler fills and sets the state of few types only.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return collections.OrderedDict()


def _load_pickled(path: Path) -> Any:
    """Loads tensors and plain containers; configuration objects beside them are read as dicts."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        pass  # objects beside the tensors, most likely: second attempt below
    except Exception as error:  # bytes that are no pickle raise errors of any type
        raise WeightsError(f"cannot read {path} as a torch file (damaged or cut short?): {error}") from error
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins: list[Any] = [(_Inert, name) for name in foreign]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise WeightsError(
            f"cannot read {path}: it is damaged, or holds objects beside tensors, which are not read because a pickle "
            f"can run code. Save only the state dict where the file was made. ({reason})"
        ) from error


def _entry(content: Any, entry: str | None, path: Path) -> Any:
    if entry is None:
        return content
    entries = [key for key, value in content.items() if isinstance(value, dict)] if isinstance(content, dict) else []
    if entry not in entries:
        shown = ", ".join(map(str, entries)) or "none"
        raise WeightsError(f"{path} has no entry {entry!r} that holds tensors; its entries: {shown}")
    return content[entry]


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, dict):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        wrappers = [key for key in WRAPPERS if isinstance(content.get(key), dict)]
        if not wrappers:
            break
        content = content[wrappers[0]]
    found = f"a {type(content).__name__}"
    if isinstance(content, dict):
        found = f"entries {sorted(map(str, content))[:8]}"
    raise WeightsError(
        f"{path} holds no state dict, at the top level or under {', '.join(WRAPPERS)}: found {found}. "
        "A state dict maps names to tensors and nothing else."
    )


def _strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _strip_prefixes({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors
