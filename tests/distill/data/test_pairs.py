"""Pairs of rows that are mixed."""

from __future__ import annotations

import numpy as np

from distill.data.catalog import Catalog
from distill.data.pairs import Pairs
from distill.data.seeds import DerivedSeeds
from distill.views import MixSpec


def test_an_odd_last_row_is_alone(catalog: Catalog) -> None:
    pairs = Pairs(MixSpec(group_size=16), num_rows=149, source=DerivedSeeds(base=3, num_samples=len(catalog)))
    partners = pairs.partners(np.zeros(149, np.int64), np.arange(149))
    (alone,) = np.flatnonzero(partners == np.arange(149)).tolist()
    assert alone >= 144
    assert pairs.rows_at(0, np.array([148])).tolist() == [alone]
