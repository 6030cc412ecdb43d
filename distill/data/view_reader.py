"""From coordinates and seeds to a batch of uint8 images: bytes from a shard, header, view, pixels, mixing in pairs.

    row -> bytes -> header (size) -+-> view = draw(spec, seed, size) -> pixels = render(image, view) -> mix_pixels
    seed --------------------------+

An image that is needed for several views at once (of several epochs, or also as a partner) is read and decoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from distill.data.batch import Batch, Damage
from distill.data.catalog import Catalog
from distill.data.image_folder import ImageFolder, ImageFolderReader, Images
from distill.data.order import Int64s
from distill.data.pairs import Pairs
from distill.data.seeds import Seeds, SeedSource, as_int64
from distill.data.shards import ShardReader
from distill.errors import DamagedImage
from distill.views import (
    EncodedImage,
    EvalSpec,
    Mixing,
    ViewSpec,
    draw,
    draw_mix,
    eval_pixels,
    mix_pixels,
    own_weight,
    pixel_digest,
    render,
)  # fmt: skip

_SHARDS_AHEAD = 2

Pixels = npt.NDArray[np.uint8]
Coordinate = tuple[int, int]
"""Stored epoch and row."""


class ViewReader:
    """Reads and renders views of one data set at one size."""

    def __init__(
        self, images: Images, *, size: int, spec: ViewSpec | EvalSpec, source: SeedSource | None = None,
        num_classes: int | None = None,
    ) -> None:  # fmt: skip
        """**Arguments:** `size` in pixels; `source` of the seeds, for training views; `num_classes` of the model: the
        labels of a data set with another number of classes are unknown to it."""
        self.images, self.size, self.spec = images, size, spec
        self.reader = ImageFolderReader(images) if isinstance(images, ImageFolder) else ShardReader(images)
        self.pairs: Pairs | None = None
        """None: views are not mixed."""
        if isinstance(spec, ViewSpec):
            assert source is not None
            self.source: SeedSource = source
            self._pixels: Callable[[EncodedImage, int], Pixels] = partial(_view_pixels, spec=spec, size=size)
            if spec.mix:
                self.pairs = Pairs(spec.mix, num_rows=len(images), source=source)
        else:
            self._pixels = partial(_eval_pixels, spec=spec, size=size)
        self._labelled = num_classes in (None, images.num_classes)
        self._ahead = -1

    def fetch_ahead(self, ranges: list[tuple[int, int]]) -> None:
        """Of a remote data set: starts fetching the shards of some ranges of rows."""
        if isinstance(self.reader, ShardReader):
            self.reader.fetch_ahead(ranges)

    def fetch_after(self, row: int) -> None:
        """Of a remote data set read in order: starts fetching the next shards, from the one of `row` on."""
        catalog = self.images
        if isinstance(catalog, Catalog) and catalog.remote and row < len(catalog):
            shard = catalog.shard_of(row)
            if shard != self._ahead:
                self._ahead = shard
                last = min(shard + _SHARDS_AHEAD, len(catalog.shards) - 1)
                self.fetch_ahead([(row, int(catalog.starts[last + 1]))])

    def read(self, epochs: Int64s, rows: Int64s, seeds: Seeds, *, num_digests: int = 0) -> Batch:
        """The views at n coordinates, each with its seed, (n,) arrays. Where the spec mixes and a row's partner is not
        among the rows, the partner is rendered too.

        **Arguments:** `num_digests`: images, from the first, whose pixels are digested.

        **Returns:** a `Batch` without targets. An image that cannot be read is grey, has weight 0 and is in `damage`.
        """
        own = list(zip(epochs.tolist(), rows.tolist(), strict=True))
        if self.pairs is None:
            pixels, damage = self._rendered(dict(zip(own, seeds.tolist(), strict=True)))
            return self._batch(epochs, rows, seeds, [pixels.get(at) for at in own], damage, num_digests)
        partners = self.pairs.partners(epochs, rows)
        others = list(zip(epochs.tolist(), partners.tolist(), strict=True))
        seed_of = self._with_partners(own, others, seeds)
        pixels, damage = self._rendered(seed_of)
        mixings = [
            draw_mix(self.pairs.spec, seed_of[min(a, b)]) if a != b else None for a, b in zip(own, others, strict=True)
        ]
        mixed = [_mixed(pixels.get(a), pixels.get(b), m) for a, b, m in zip(own, others, mixings, strict=True)]
        weights = [1.0 if mixing is None else own_weight(mixing, size=self.size) for mixing in mixings]
        return self._batch(
            epochs, rows, seeds, mixed, damage, num_digests,
            partner_labels_b=torch.from_numpy(self._labels(partners)),
            mix_weights_b=torch.tensor(weights, dtype=torch.float32),
        )  # fmt: skip

    def _with_partners(
        self, own: Sequence[Coordinate], others: Sequence[Coordinate], seeds: Seeds
    ) -> dict[Coordinate, int]:
        """The seed of each coordinate and of its partner's, read from the source where it is not given."""
        seed_of = dict(zip(own, seeds.tolist(), strict=True))
        if missing := [at for at in dict.fromkeys(others) if at not in seed_of]:
            epochs, rows = np.array(missing, np.int64).T
            seed_of |= zip(missing, self.source.seeds(epochs, rows).tolist(), strict=True)
        return seed_of

    def _rendered(self, seed_of: dict[Coordinate, int]) -> tuple[dict[Coordinate, Pixels], list[Damage]]:
        """The rendered view of each coordinate whose image can be read, and the damage of the others."""
        by_row: dict[int, list[Coordinate]] = {}
        for at in seed_of:
            by_row.setdefault(at[1], []).append(at)
        pixels: dict[Coordinate, Pixels] = {}
        damage: list[Damage] = []
        for row, coordinates in by_row.items():
            try:
                image = EncodedImage(self.reader.read(row), several_views=len(coordinates) > 1)
                for at in coordinates:
                    pixels[at] = self._pixels(image, seed_of[at])
            except DamagedImage as error:
                where = self.reader.where(row)
                message = str(error) if where in str(error) else f"{where}: {error}"
                damage += [Damage(epoch, row, message) for epoch, _ in coordinates]
        return pixels, damage

    def _batch(
        self, epochs: Int64s, rows: Int64s, seeds: Seeds, images: Sequence[Pixels | None], damage: Sequence[Damage],
        num_digests: int, *, partner_labels_b: torch.Tensor | None = None, mix_weights_b: torch.Tensor | None = None,
    ) -> Batch:  # fmt: skip
        pixels = np.full((len(rows), self.size, self.size, 3), 128, np.uint8)
        for n, image in enumerate(images):
            if image is not None:
                pixels[n] = image
        return Batch(
            epochs_b=torch.from_numpy(epochs),
            rows_b=torch.from_numpy(rows),
            seeds_b=as_int64(seeds),
            pixels_bhwc=torch.from_numpy(pixels),
            labels_b=torch.from_numpy(self._labels(rows)),
            weights_b=torch.tensor([float(image is not None) for image in images]),
            partner_labels_b=partner_labels_b,
            mix_weights_b=mix_weights_b,
            digests=tuple(pixel_digest(pixels[n]) for n in range(num_digests)),
            damage=tuple(damage),
        )

    def _labels(self, rows: Int64s) -> Int64s:
        return self.images.labels[rows].astype(np.int64) if self._labelled else np.full(len(rows), -1)


def _view_pixels(image: EncodedImage, seed: int, *, spec: ViewSpec, size: int) -> Pixels:
    return render(image, draw(spec, seed, image.size), size=size)


def _eval_pixels(image: EncodedImage, seed: int, *, spec: EvalSpec, size: int) -> Pixels:
    return eval_pixels(image, spec, size=size)


def _mixed(own: Pixels | None, other: Pixels | None, mixing: Mixing | None) -> Pixels | None:
    """The mixed image; None where one of the two images could not be read."""
    if own is None or other is None:
        return None
    return own if mixing is None else np.asarray(mix_pixels(own, other, mixing))
