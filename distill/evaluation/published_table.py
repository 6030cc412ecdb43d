"""The published table of models beside the numbers counted here."""

from __future__ import annotations

from distill.errors import DistillError
from distill.models.cost import published

_HEAD = (
    f"{'model':<14}{'image':>5}  {'pretrained':<15}{'params M':>9}{'published':>11}{'MACs G':>9}{'published':>11}"
    f"{'top-1':>8}{'top-5':>8}"
)


def model_table() -> str:
    """Parameters and multiply-accumulates, counted and published, and the published accuracies.

    **Raises:** `DistillError` if a counted number differs from the published one in a digit that is printed.
    """
    counted = published.count_table()
    lines = [
        f"{c.row.name:<14}{c.row.image_size:>5}  {c.row.pretrain:<15}{c.params_m:>9}{c.row.params_m:>11}"
        f"{c.macs_g:>9}{c.row.macs_g:>11}{c.row.top1:>8.2f}{c.row.top5:>8.2f}"
        for c in counted
    ]
    table = "\n".join([_HEAD, *lines, "(top-1 and top-5 are the published ones, not measured here)"])
    if different := [f"{c.row.name} at {c.row.image_size}" for c in counted if not c.equal]:
        raise DistillError(f"counts differ from the published table: {', '.join(different)}\n{table}")
    return table
