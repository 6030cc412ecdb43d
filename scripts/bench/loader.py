"""This project's loader against torch's DataLoader with timm's transform, and what a store adds to the loader.

    python scripts/bench/loader.py --pool FOLDER_OF_JPEGS --json loader.json

On the same JPEG files, in one run, both sides in turn; medians of the repeats:

- images/s of this project's loader and of torch's with timm's transform (`rand-m9-mstd0.5-inc1`; its prefetcher path:
  uint8 out, erasing and normalisation left to the device), with 1 and 2 workers;
- the student's batches with a store (top 100 of 1,000 classes) against the same batches without one, each batch in this
  process: `store_overhead` is the median extra time as a fraction. Verifying a block's proof at its first read (2
  images of 4,096) falls into one batch and so not into the median;
- the speed gained by packing with `--max-side 340`.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.loader import fast_collate
from torch.utils.data import DataLoader, Dataset

import logitstore
from distill.data.batches import BlockBatches, BlockSlice, TrainBatches
from distill.data.catalog import Catalog, open_catalog
from distill.data.loader import load
from distill.data.order import Order
from distill.data.packing.pack import pack
from distill.data.packing.recode import Recode
from distill.data.seeds import DerivedSeeds, StoredViews
from distill.replay.proofs import ProofVerifier, VerifyFirstReads
from distill.views import RandAugment, ViewSpec, block_proof
from scripts.bench.transforms import fix_posterize

SIZE, BATCH, SEED, MAX_SIDE = 224, 32, 5, 340
SPEC = ViewSpec(policy=RandAugment.parse("rand-m9-mstd0.5-inc1"), erase=0.25)
CLASSES, TOPK = 1000, 100


def loader_rows(
    pool: Path, *, repeats: int = 3, batches: int = 20, store_batches: int = 40, rows: int = 2048
) -> dict[str, float]:
    """Measures everything on a folder of JPEGs.

    **Arguments:** `batches` of 32 are timed in each run of a loader, after those that fill its queues; `store_batches`
    pairs of batches with and without a store; `rows` of the packed data set, for which the files are repeated.

    **Returns** rates and ratios by the keys of the JSON file.
    """
    torch.set_num_threads(1)
    fix_posterize()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _repeat(pool, folder / "images", rows)
        pack(folder / "images", folder / "data", rows_per_shard=512, labelled=False)
        pack(folder / "images", folder / "small", rows_per_shard=512, labelled=False, recode=Recode(max_side=MAX_SIDE))
        catalog, small = open_catalog(folder / "data"), open_catalog(folder / "small")
        timm_data = _TimmFiles(sorted((folder / "images").iterdir()))
        rates: dict[str, list[float]] = {}
        for _ in range(repeats):
            for workers in (1, 2):
                ours = load(_batches(catalog), range(10**9), workers=workers, prefetch=2)
                theirs = DataLoader(
                    timm_data, BATCH, shuffle=True, num_workers=workers, collate_fn=fast_collate, drop_last=True
                )
                rates.setdefault(f"loader_{workers}", []).append(_rate(ours, batches))
                rates.setdefault(f"timm_{workers}", []).append(_rate(theirs, batches))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        store = _make_store(folder / "store.zarr", catalog)
        plain = _batches(catalog)
        return {
            "loader_images_per_s_1_worker": medians["loader_1"],
            "loader_images_per_s_2_workers": medians["loader_2"],
            "timm_images_per_s_1_worker": medians["timm_1"],
            "timm_images_per_s_2_workers": medians["timm_2"],
            "loader_vs_timm_1_worker": medians["loader_1"] / medians["timm_1"],
            "loader_vs_timm_2_workers": medians["loader_2"] / medians["timm_2"],
            "loader_scaling_1_to_2": medians["loader_2"] / medians["loader_1"],
            "store_overhead": _extra(_stored(catalog, store), plain, store_batches),
            f"max_side_{MAX_SIDE}_gain": 1 / (1 + _extra(_batches(small), plain, store_batches)),
            f"max_side_{MAX_SIDE}_bytes": float(small.sizes.sum() / catalog.sizes.sum()),
        }


class _TimmFiles(Dataset[tuple[torch.Tensor, int]]):
    """Files through timm's training transform for its prefetcher: uint8 pixels."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.transform = create_transform(
            SIZE, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25, interpolation="bicubic",
            use_prefetcher=True,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with self.paths[index].open("rb") as file:
            return self.transform(Image.open(file).convert("RGB")), 0


def _repeat(pool: Path, target: Path, rows: int) -> None:
    """Makes `rows` links to the pool's files, in turn."""
    files = sorted(path for path in pool.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise click.UsageError(f"{pool} holds no JPEG files")
    target.mkdir()
    for n in range(rows):
        (target / f"{n:06d}.jpg").symlink_to(files[n % len(files)].resolve())


def _batches(catalog: Catalog) -> TrainBatches:
    order = Order(starts=catalog.starts, seed=0, batch_size=BATCH)
    source = DerivedSeeds(base=SEED, num_samples=len(catalog))
    return TrainBatches(catalog, order=order, rank=0, spec=SPEC, size=SIZE, source=source)


def _make_store(path: Path, catalog: Catalog) -> logitstore.Store:
    """One epoch of the views that `_batches` draws, with synthetic logits and true proofs."""
    random = np.random.default_rng(0)
    num_rows = len(catalog)
    block = min(4096, -(-num_rows // 1024) * 1024)
    spec = logitstore.StoreSpec(
        num_samples=num_rows, num_epochs=1, num_classes=CLASSES, topk=TOPK, rows_per_block=block, store_seed=SEED,
        view=SPEC.to_json(), teacher={"image_size": SIZE}, data={"fingerprint": catalog.fingerprint},
    )  # fmt: skip
    logitstore.create(path, spec, keys=catalog.key_hashes(), labels=np.asarray(catalog.labels))
    blocks = BlockBatches(catalog, spec=SPEC, size=SIZE, seed=SEED, rows_per_block=block, proof_rows=2)
    with logitstore.writer(path) as writer:
        for number in range(spec.num_blocks):
            rows = spec.block_rows(number)
            logits = torch.from_numpy(3 * random.standard_normal((len(rows), CLASSES), np.float32))
            top = logits.log_softmax(dim=1).topk(TOPK, dim=1)
            (first,) = blocks[BlockSlice((0,), number, rows.start, rows.start + 2, last=False)]
            writer.write(
                0, number, seeds=blocks.source.seeds(np.zeros(len(rows), np.int64), np.arange(rows.start, rows.stop)),
                indices=top.indices.numpy(), logprobs=top.values.numpy(),
                tail=torch.log1p(-top.values.exp().sum(dim=1)).numpy(), proof=block_proof(first.digests),
            )  # fmt: skip
    return logitstore.open(path)


def _stored(catalog: Catalog, store: logitstore.Store) -> TrainBatches:
    """The same batches as `_batches`, in its first epoch, from the store."""
    order = _batches(catalog).order
    verify = VerifyFirstReads(ProofVerifier(store, SPEC, catalog), rank=0, world=1, strict=True)
    return TrainBatches(
        replace(catalog, class_names=tuple(map(str, range(CLASSES)))), order=order, rank=0, spec=SPEC, size=SIZE,
        source=StoredViews(store), num_classes=CLASSES, epochs=(0,), verify=verify,
    )  # fmt: skip


def _rate(batches: Iterable[object], count: int) -> float:
    """Images/s of a running loader; the first batches, which fill its queues, are not counted."""
    iterator = iter(batches)
    for _ in range(6):
        next(iterator)
    began = time.perf_counter()
    for _ in range(count):
        next(iterator)
    return count * BATCH / (time.perf_counter() - began)


def _extra(changed: TrainBatches, plain: TrainBatches, count: int) -> float:
    """Median over batches of the extra time of `changed` as a fraction of `plain`'s, taken in turns."""
    ratios = []
    for index in range(count):
        pair = [changed, plain] if index % 2 else [plain, changed]
        seconds = {id(batches): _seconds(batches, index) for batches in pair}
        ratios.append(seconds[id(changed)] / seconds[id(plain)])
    return statistics.median(ratios) - 1


def _seconds(batches: TrainBatches, index: int) -> float:
    began = time.perf_counter()
    batches[index]
    return time.perf_counter() - began


@click.command()
@click.option("--pool", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
              help="A folder of JPEG files.")  # fmt: skip
@click.option("--repeats", default=3, show_default=True, help="Runs of each loader.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(pool: Path, repeats: int, json_file: Path | None) -> None:
    """Times loaders on the JPEG files of a folder."""
    figures = loader_rows(pool, repeats=repeats)
    for name, value in figures.items():
        click.echo(f"{name:34} {value:10.3f}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
