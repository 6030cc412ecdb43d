"""The published table: parameters and multiply-accumulates, to the printed digits."""

from __future__ import annotations

from distill.models.cost import published


def test_counts_equal_the_published_table_to_the_printed_digits() -> None:
    counted = published.count_table()
    assert len(counted) == 8
    for line in counted:
        assert (line.params_m, line.macs_g) == (line.row.params_m, line.row.macs_g)
        assert line.equal
