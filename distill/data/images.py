"""From rows to uint8 pictures: bytes from a shard, views drawn from their seeds, rendered, and mixed in pairs.

However many views of a picture are asked for at once (several epochs, or as its own and as another's partner), its
bytes are read and decoded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from distill.data.catalog import Catalog
from distill.data.image_folder import Folder, FolderReader, Images
from distill.data.pairs import Pairs, Rows, SeedsOf
from distill.data.shards import ShardReader
from distill.errors import DamagedImage
from distill.views import (
    Mixing,
    Picture,
    View,
    ViewSpec,
    draw,
    draw_mix,
    image_size,
    mix_pixels,
    own_weight,
    pixel_digest,
    render,
)  # fmt: skip

_SHARDS_AHEAD = 2

Pixels = npt.NDArray[np.uint8]
ViewOf = Callable[[tuple[int, int]], View]
"""(height, width) -> view."""
Coordinate = tuple[int, int]
"""Epoch and row."""


class Pictures:
    """Reads and renders rows of one data set at one size."""

    def __init__(self, catalog: Images, *, size: int, num_classes: int | None = None) -> None:
        """**Arguments:** `num_classes`: of the model; labels of a data set with another number are unknown to it."""
        self.catalog = catalog
        self.size = size
        self._labelled = num_classes in (None, catalog.num_classes)
        self.reader = FolderReader(catalog) if isinstance(catalog, Folder) else ShardReader(catalog)
        self._ahead = -1

    def fetch_ahead(self, ranges: list[tuple[int, int]]) -> None:
        """Of a remote data set: begins to fetch the shards that hold some ranges of rows."""
        if isinstance(self.reader, ShardReader):
            self.reader.fetch_ahead(ranges)

    def fetch_after(self, row: int) -> None:
        """Of a remote data set read in order: begins to fetch the shards from a row on that come next."""
        catalog = self.catalog
        if isinstance(catalog, Catalog) and catalog.remote and row < len(catalog):
            shard = catalog.shard_of(row)
            if shard != self._ahead:
                self._ahead = shard
                last = min(shard + _SHARDS_AHEAD, len(catalog.shards) - 1)
                self.fetch_ahead([(row, int(catalog.starts[last + 1]))])

    def plain(self, rows: Rows, view_of: ViewOf) -> dict[str, Any]:
        """The fields of a `Batch` that come from pictures: each row under the view that fits its size."""
        epochs = np.zeros(len(rows), np.int64)
        wanted = {(0, row): view_of for row in rows.tolist()}
        pixels, damage = self._rendered(wanted)
        return self._fields(epochs, rows, [pixels.get((0, row)) for row in rows.tolist()], damage)

    def augmented(
        self, epochs: Rows, rows: Rows, *, spec: ViewSpec, seeds_of: SeedsOf, pairs: Pairs | None, num_digests: int = 0
    ) -> dict[str, Any]:
        """The same for training views: epochs and rows (n,) int64. Where the spec mixes, a row whose partner is not
        among the rows costs its partner's rendering too.

        **Arguments:** `pairs` is `pairs_of(spec, ...)`; the first `num_digests` pictures are digested.
        """
        partners = _partners(pairs, epochs, rows)
        own = list(zip(epochs.tolist(), rows.tolist(), strict=True))
        others = list(zip(epochs.tolist(), partners.tolist(), strict=True))
        wanted = list(dict.fromkeys([*own, *others]))
        seeds = _seeds(wanted, seeds_of)
        pixels, damage = self._rendered({at: _drawn(spec, seeds[at]) for at in wanted})
        if pairs is None:
            return self._fields(epochs, rows, [pixels.get(at) for at in own], damage, num_digests=num_digests)
        mixings = [draw_mix(pairs.spec, seeds[min(a, b)]) if a != b else None for a, b in zip(own, others, strict=True)]
        mixed = [
            _mixed(pixels.get(a), pixels.get(b), mixing) for a, b, mixing in zip(own, others, mixings, strict=True)
        ]
        fields = self._fields(epochs, rows, mixed, damage, num_digests=num_digests)
        shares = [1.0 if mixing is None else own_weight(mixing, size=self.size) for mixing in mixings]
        return fields | {
            "partner_labels_b": torch.from_numpy(self._labels(partners)),
            "shares_b": torch.tensor(shares, dtype=torch.float32),
        }

    def _rendered(self, wanted: dict[Coordinate, ViewOf]) -> tuple[dict[Coordinate, Pixels], dict[Coordinate, str]]:
        """The view of each coordinate that can be read, and a message for each other one."""
        by_row: dict[int, list[Coordinate]] = {}
        for at in wanted:
            by_row.setdefault(at[1], []).append(at)
        pixels: dict[Coordinate, Pixels] = {}
        damage: dict[Coordinate, str] = {}
        for row, coordinates in by_row.items():
            try:
                data = self.reader.read(row)
                size = image_size(data)
                source = data if len(coordinates) == 1 else Picture(data)
                for at in coordinates:
                    pixels[at] = render(source, wanted[at](size), size=self.size)
            except DamagedImage as error:
                where = self.reader.where(row)
                text = str(error) if where in str(error) else f"{where}: {error}"
                damage |= {at: text for at in coordinates}
        return pixels, damage

    def _fields(
        self, epochs: Rows, rows: Rows, pictures: list[Pixels | None], damage: dict[Coordinate, str], *,
        num_digests: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        pixels = np.full((len(rows), self.size, self.size, 3), 128, np.uint8)
        for n, picture in enumerate(pictures):
            if picture is not None:
                pixels[n] = picture
        return {
            "epochs_b": torch.from_numpy(epochs),
            "rows_b": torch.from_numpy(rows),
            "pixels_bhwc": torch.from_numpy(pixels),
            "labels_b": torch.from_numpy(self._labels(rows)),
            "weights_b": torch.tensor([float(picture is not None) for picture in pictures]),
            "digests": tuple(pixel_digest(pixels[n]) for n in range(num_digests)),
            "damage": tuple((epoch, row, text) for (epoch, row), text in damage.items()),
        }

    def _labels(self, rows: Rows) -> npt.NDArray[np.int64]:
        return self.catalog.labels[rows].astype(np.int64) if self._labelled else np.full(len(rows), -1)


def _partners(pairs: Pairs | None, epochs: Rows, rows: Rows) -> Rows:
    if pairs is None:
        return rows
    partners = rows.copy()
    for epoch in np.unique(epochs).tolist():
        partners[epochs == epoch] = pairs.partners(epoch, rows[epochs == epoch])
    return partners


def _seeds(wanted: list[Coordinate], seeds_of: SeedsOf) -> dict[Coordinate, int]:
    seeds: dict[Coordinate, int] = {}
    for epoch in dict.fromkeys(epoch for epoch, _ in wanted):
        rows = [row for e, row in wanted if e == epoch]
        found = seeds_of(epoch, np.array(rows, np.int64)).tolist()
        seeds |= {(epoch, row): seed for row, seed in zip(rows, found, strict=True)}
    return seeds


def _drawn(spec: ViewSpec, seed: int) -> ViewOf:
    return lambda size: draw(spec, seed, size)


def _mixed(own: Pixels | None, other: Pixels | None, mixing: Mixing | None) -> Pixels | None:
    """None where one of the two cannot be read: then there is no mixed picture either."""
    if own is None or other is None:
        return None
    return own if mixing is None else np.asarray(mix_pixels(own, other, mixing))
