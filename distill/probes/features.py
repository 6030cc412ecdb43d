"""Features of a data set: computed once by all processes together, cached on disk, read back.

    CACHE/DIGEST/features.npy   (n, d) float32, row by row of the data set
                 readable.npy   (n,) bool: whether a row's image could be read
                 about.json     the cache key, and the digests of both files; written last

DIGEST is that of the cache key, a JSON object of all that decides a feature: weights, the data's fingerprint, how
images are cropped, resized and normalised, precision. Batch size, workers and the number of processes are not part of
it: they change a feature by no more than the rounding of float32.
"""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import nn

from distill.data.batches import EvalBatches
from distill.data.damage_log import DamageLog
from distill.data.loader import load
from distill.errors import DistillError
from distill.evaluation import score
from distill.files import read_json_object, refuse_links
from distill.runtime.model_input import Normalise, forward
from distill.runtime.processes import Runtime
from distill.runtime.progress import Progress

VERSION = 1
_FEATURES, _READABLE, _ABOUT = "features.npy", "readable.npy", "about.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features of the labelled rows of a data set."""

    values_nd: npt.NDArray[np.float32]
    labels_n: npt.NDArray[np.int64]
    """Indices into the data set's class names."""

    def __len__(self) -> int:
        return len(self.labels_n)


def is_cached(cache: Path, cache_key: dict[str, Any]) -> bool:
    """Whether the features are on disk."""
    return (_folder(cache, cache_key) / _ABOUT).exists()


def compute(
    net: nn.Module,
    dataset: EvalBatches,
    *,
    num_rows: int,
    cache_key: dict[str, Any],
    cache: Path,
    batch_size: int,
    workers: int,
    damage_log: DamageLog,
    normalise: Normalise,
    runtime: Runtime,
) -> None:
    """Runs a network over the first rows of a data set and writes its outputs to the cache. Every process must call.

    **Arguments:** `net` returns (b, d) or what flattens to it; `cache_key`: JSON values of all that decides a feature.

    **Raises:** `DistillError` where a feature is not finite or the cache cannot be written.
    """
    part = Path(runtime.from_main(lambda: str(_begin(cache, cache_key))))
    width = _width(net, dataset.views.size, normalise, runtime)
    if runtime.is_main:
        np.lib.format.open_memmap(part / _FEATURES, "w+", np.float32, (num_rows, width)).flush()
        np.lib.format.open_memmap(part / _READABLE, "w+", np.bool_, (num_rows,)).flush()
    runtime.accelerator.wait_for_everyone()
    values_nd = np.load(part / _FEATURES, mmap_mode="r+")
    readable_n = np.load(part / _READABLE, mmap_mode="r+")
    parts = score.rows_of_process(num_rows, batch_size=batch_size, runtime=runtime)
    with (
        torch.inference_mode(),
        Progress("features", total=num_rows, unit="images", shown=runtime.is_main) as progress,
    ):
        for rows, batch in zip(parts, load(dataset, parts, workers=workers, pin=runtime.pin), strict=True):
            damage_log.record(batch)
            values_bd = (
                forward(net, batch.pixels_bhwc, normalise=normalise, accelerator=runtime.accelerator).flatten(1).float()
            )
            if not values_bd.isfinite().all():
                raise DistillError(
                    f"a feature of rows {rows.start} to {rows.stop - 1} in {cache_key['data']} is not finite"
                )
            values_nd[rows.start : rows.stop] = values_bd.cpu().numpy()
            readable_n[rows.start : rows.stop] = (batch.weights_b > 0).numpy()
            progress.advance(len(batch) * runtime.world)
    values_nd.flush()
    readable_n.flush()
    runtime.accelerator.wait_for_everyone()
    runtime.from_main(lambda: _finish(part, _folder(cache, cache_key), cache_key))


def read(cache: Path, cache_key: dict[str, Any], labels_n: npt.NDArray[np.int32]) -> Features:
    """The cached features of the rows that have a label and could be read.

    **Arguments:** `labels_n` of the data set's first rows, -1 unknown.

    **Raises:** `DistillError` if a file does not have the digest it was written with.
    """
    folder = _folder(cache, cache_key)
    refuse_links(folder)
    digests = read_json_object(folder / _ABOUT)["digests"]
    for name in (_FEATURES, _READABLE):
        if _digest(folder / name) != digests[name]:
            raise DistillError(f"{folder / name} was damaged since it was written: remove {folder} to compute it again")
    usable_n = np.load(folder / _READABLE) & (np.asarray(labels_n) >= 0)
    values_nd = np.load(folder / _FEATURES, mmap_mode="r")[usable_n]
    return Features(values_nd=values_nd, labels_n=np.asarray(labels_n)[usable_n].astype(np.int64))


def _folder(cache: Path, cache_key: dict[str, Any]) -> Path:
    text = json.dumps({"version": VERSION, **cache_key}, sort_keys=True)
    return cache / xxhash.xxh3_128_hexdigest(text.encode())


def _begin(cache: Path, cache_key: dict[str, Any]) -> Path:
    """Makes a temporary folder that no other program writes to."""
    folder = _folder(cache, cache_key)
    part = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
    except OSError as error:
        raise DistillError(f"cannot write features to {cache}: {error.strerror}") from None
    return part


def _finish(part: Path, folder: Path, cache_key: dict[str, Any]) -> None:
    digests = {name: _digest(part / name) for name in (_FEATURES, _READABLE)}
    (part / _ABOUT).write_text(json.dumps({"version": VERSION, **cache_key, "digests": digests}, indent=1) + "\n")
    if folder.exists():  # Another program has computed the same meanwhile.
        shutil.rmtree(part)
    else:
        part.rename(folder)


def _digest(path: Path) -> str:
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while data := file.read(1 << 24):
            state.update(data)
    return state.hexdigest()


@torch.inference_mode()
def _width(net: nn.Module, size: int, normalise: Normalise, runtime: Runtime) -> int:
    black_bhwc = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=runtime.device)
    return int(net(normalise(black_bhwc)).flatten(1).shape[1])
