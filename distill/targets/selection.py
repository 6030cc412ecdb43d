"""From logits to sparse targets: which classes of each view are stored, and the mass of the others.

Three selections. `topk` takes the most probable classes. What it leaves out the loss has to assume (see `losses`), so
the gradient has a bias. `sample` and `hybrid` draw classes at random, such that the expected gradient is the dense one.

Both draw systematically: classes are intervals laid end to end, each as long as its expected count, and those that
contain one of the points u, u + 1, u + 2, ... are drawn, for one number u per view. Of n draws a class of probability p
gets n p on average, and never differs from that by more than one; independent draws have a far larger variance
(Kitagawa, "Monte Carlo filter and smoother", 1996, appendix; Douc & Cappé, "Comparison of resampling schemes", 2005).
u comes from the view's seed, so a block that is computed again is the same.

Legend: b views, c classes, k selected classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.targets.sparse import SparseTargets

_EMPTY, _DRAWN = float("-inf"), float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which classes of a view are stored, as in a store's spec."""

    kind: str
    """`topk`, `sample` or `hybrid`."""
    topk: int
    """Entries per view."""
    draws: int = 0
    """sample: draws per view."""


def select_targets(logits_bc: Tensor, selection: Selection, *, seeds_b: npt.NDArray[np.uint64]) -> SparseTargets:
    """Selects classes of each row of logits, on the device of the logits.

    **Arguments:** `logits_bc` (b, c) of any floating type; `seeds_b` (b,) of the views, for selections that draw.

    **Returns:** `SparseTargets` with float32 values on the same device.
    """
    if selection.kind == "topk":
        return select_topk(logits_bc, topk=selection.topk)
    uniforms_b = torch.from_numpy(uniforms(seeds_b)).to(logits_bc.device)
    if selection.kind == "sample":
        return select_sample(logits_bc, topk=selection.topk, draws=selection.draws, uniforms_b=uniforms_b)
    return select_hybrid(logits_bc, topk=selection.topk, uniforms_b=uniforms_b)


def select_topk(logits_bc: Tensor, *, topk: int) -> SparseTargets:
    """The `topk` most probable classes of each row.

    The tail is the log-sum-exp of the other logits, never one minus the mass of the top-k, so it is precise where the
    teacher is confident.

    **Arguments:** `logits_bc` (b, c) of any floating type; `topk` at most c.
    """
    logits_bc = logits_bc.float()
    norm_b1 = logits_bc.logsumexp(dim=1, keepdim=True)
    top_bk, indices_bk = logits_bc.topk(topk, dim=1)
    others_bc = logits_bc.scatter(1, indices_bk, _EMPTY)
    return SparseTargets(indices_bk, top_bk - norm_b1, others_bc.logsumexp(dim=1) - norm_b1.squeeze(1))


def select_sample(logits_bc: Tensor, *, topk: int, draws: int, uniforms_b: Tensor) -> SparseTargets:
    """The classes that `draws` draws from the row's distribution hit, each weighted by its fraction of the draws.

    The expected weight of a class is its probability, so the expected gradient of the loss is the dense one (sampling a
    teacher's logits: Anshumann et al., "Sparse logit sampling", 2025, who draw independently).

    **Arguments:** `topk`: at least `draws`, or all classes; `uniforms_b` (b,) float64 in [0, 1).
    """
    probs_bc = logits_bc.double().softmax(dim=1)
    counts_bc = _systematic_counts(probs_bc * draws, total=draws, uniforms_b=uniforms_b)
    top_bk, indices_bk = (counts_bc + probs_bc).topk(topk, dim=1)  # Of equal counts the more probable class first.
    counts_bk = counts_bc.gather(1, indices_bk)
    return SparseTargets(indices_bk, (counts_bk / draws).log().float(), torch.full_like(top_bk[:, 0], _EMPTY).float())


def select_hybrid(logits_bc: Tensor, *, topk: int, uniforms_b: Tensor) -> SparseTargets:
    """The m most probable classes with their probabilities, and `topk` - m drawn from the others, which divide the mass
    of all others equally.

    Of the others a class is drawn with a chance proportional to its probability, so the expected gradient is the dense
    one. m is the smallest number for which no chance exceeds one; this makes the expected squared error the smallest
    that an unbiased selection of that many classes has (Fearnhead & Clifford, "On-line inference for hidden Markov
    models via particle filters", 2003, section 3.2).

    **Arguments:** `topk` below the number of classes, else all are selected; `uniforms_b` (b,) float64 in [0, 1).
    """
    top = select_topk(logits_bc.double().log_softmax(dim=1), topk=topk)
    if topk == logits_bc.shape[1]:
        return top
    probs_bk = top.logprobs.double().exp()
    # rests_bk[:, m] is the mass outside the m most probable classes, summed from the smallest up.
    rests_bk = probs_bk.flip(1).cumsum(dim=1).flip(1) + top.tail.double().exp()[:, None]
    weights_bk = rests_bk / torch.arange(topk, 0, -1, device=logits_bc.device)
    exact_b = (probs_bk <= weights_bk).int().argmax(dim=1)  # The first m for which it holds; it does for the last.
    exact_bk = torch.arange(topk, device=logits_bc.device) < exact_b[:, None]
    rest_b = rests_bk.gather(1, exact_b[:, None]).squeeze(1)

    logprobs_bc = logits_bc.double().log_softmax(dim=1)
    exact_bc = torch.zeros_like(logprobs_bc, dtype=torch.bool).scatter(1, top.indices, exact_bk)
    others_bc = logprobs_bc.exp().masked_fill(exact_bc, 0)
    number_b = topk - exact_b
    chances_bc = others_bc * (number_b / others_bc.sum(dim=1))[:, None]
    drawn_bc = _systematic_counts(chances_bc, total=number_b, uniforms_b=uniforms_b) > 0
    ranked_bk, indices_bk = logprobs_bc.masked_fill(~(exact_bc | drawn_bc), _EMPTY).topk(topk, dim=1)
    logprobs_bk = torch.where(exact_bk | ranked_bk.isneginf(), ranked_bk, _DRAWN)
    return SparseTargets(indices_bk, logprobs_bk.float(), rest_b.log().float())


def _systematic_counts(expected_bc: Tensor, *, total: Tensor | int, uniforms_b: Tensor) -> Tensor:
    """(b, c) float64 integers next to the expected counts, which are their means, summing to `total`."""
    ends_bc = expected_bc.cumsum(dim=1)
    ends_bc[:, -1] = torch.as_tensor(total, dtype=ends_bc.dtype)  # Exact, whatever the rounding of the sum.
    points_bc = (ends_bc + uniforms_b[:, None]).floor()
    return points_bc.diff(dim=1, prepend=torch.zeros_like(points_bc[:, :1])).clamp(min=0)


def uniforms(seeds_b: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """A number in [0, 1) per view seed, (b,): the output function of SplitMix64 (Steele et al., 2014), 53 bits."""
    words = seeds_b.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)


def no_targets(num_rows: int, *, topk: int) -> SparseTargets:
    """The targets of views whose image could not be read: no class, all mass in the tail."""
    return SparseTargets(
        torch.arange(topk).repeat(num_rows, 1),
        torch.full((num_rows, topk), _EMPTY),
        torch.zeros(num_rows),
    )
