"""From logits to what is kept of them: some classes of each view, and the mass outside.

Three selections. `topk` keeps the most probable classes; what is lost, the loss fills in (see `losses`), so its
gradient has a bias. `sample` and `hybrid` draw classes with chances such that the expected gradient is the dense one.

Both draw systematically: of classes laid end to end, each as long as its expected count, those are drawn that hold one
of the points u, u + 1, u + 2, ... for one number u of the view. A class of probability p then comes up n p times on the
average of n draws, and never more than one count from it; independent draws scatter far more (Kitagawa, "Monte Carlo
filter and smoother", 1996, appendix; Douc & Cappé, "Comparison of resampling schemes", 2005). The number comes from the
view's seed, so a block that is done again is the same.

Legend: b views, c classes, k kept classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distill.targets.sparse import SparseTargets

_NOTHING, _DRAWN = float("-inf"), float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which classes of a view are kept, as a store's spec says it."""

    kind: str
    """`topk`, `sample` or `hybrid`."""
    topk: int
    """Classes a view has room for."""
    max_mass: float = 1.0
    """topk: classes after those that reach this mass together are not kept."""
    draws: int = 0
    """sample: draws a view."""


def select_targets(logits_bc: Tensor, selection: Selection, *, seeds_b: npt.NDArray[np.uint64]) -> SparseTargets:
    """Keeps some classes of each row of logits, on the device where they are.

    **Arguments:** `logits_bc` (b, c) of any floating type; `seeds_b` of the views, read where classes are drawn.

    **Returns:** `SparseTargets` with float32 values on the same device.
    """
    if selection.kind == "topk":
        return select_topk(logits_bc, topk=selection.topk, max_mass=selection.max_mass)
    uniforms_b = torch.from_numpy(uniforms(seeds_b)).to(logits_bc.device)
    if selection.kind == "sample":
        return select_sample(logits_bc, topk=selection.topk, draws=selection.draws, uniforms_b=uniforms_b)
    return select_hybrid(logits_bc, topk=selection.topk, uniforms_b=uniforms_b)


def select_topk(logits_bc: Tensor, *, topk: int, max_mass: float = 1.0) -> SparseTargets:
    """Keeps the `topk` most probable classes of each row, or fewer where they reach `max_mass` together.

    The tail is the log-sum-exp of the other logits, never one minus the kept mass, so it keeps its precision where
    the teacher is sure.

    **Arguments:** `logits_bc` (b, c) of any floating type; `topk` at most c.
    """
    logits_bc = logits_bc.float()
    norm_b1 = logits_bc.logsumexp(dim=1, keepdim=True)
    top_bk, indices_bk = logits_bc.topk(topk, dim=1)
    rest_bc = logits_bc.scatter(1, indices_bk, _NOTHING)
    tail_b = rest_bc.logsumexp(dim=1) - norm_b1.squeeze(1)
    logprobs_bk = top_bk - norm_b1
    if max_mass < 1:
        probs_bk = logprobs_bk.double().exp()
        past_bk = probs_bk.cumsum(dim=1) - probs_bk >= max_mass
        dropped_b = logprobs_bk.masked_fill(~past_bk, _NOTHING).logsumexp(dim=1)
        logprobs_bk, tail_b = logprobs_bk.masked_fill(past_bk, _NOTHING), tail_b.logaddexp(dropped_b)
    return SparseTargets(indices_bk, logprobs_bk, tail_b)


def select_sample(logits_bc: Tensor, *, topk: int, draws: int, uniforms_b: Tensor) -> SparseTargets:
    """Keeps the classes that `draws` draws from the row's distribution meet, each with its share of the draws.

    The expected weight of a class is its probability, so the expected gradient of the loss is the dense one (sampling a
    teacher's logits: Anshumann et al., "Sparse logit sampling", 2025, who draw independently).

    **Arguments:** `topk`: at least `draws`, or all classes; `uniforms_b` (b,) float64 in [0, 1).
    """
    probs_bc = logits_bc.double().softmax(dim=1)
    counts_bc = _systematic_counts(probs_bc * draws, total=draws, uniforms_b=uniforms_b)
    top_bk, indices_bk = (counts_bc + probs_bc).topk(topk, dim=1)  # Of equal counts the more probable class first.
    counts_bk = counts_bc.gather(1, indices_bk)
    return SparseTargets(indices_bk, (counts_bk / draws).log().float(), torch.full_like(top_bk[:, 0], _NOTHING).float())


def select_hybrid(logits_bc: Tensor, *, topk: int, uniforms_b: Tensor) -> SparseTargets:
    """Keeps the m most probable classes exactly and draws `topk` - m of the others, which share the mass of those
    equally.

    Of the others a class is drawn with a chance in proportion to its probability, so the expected gradient is the dense
    one. m is the smallest number for which no chance is above one; this makes the expected squared error the least that
    any unbiased selection of so many classes has (Fearnhead & Clifford, "On-line inference for hidden Markov models via
    particle filters", 2003, section 3.2).

    **Arguments:** `topk` below the number of classes, else all are kept; `uniforms_b` (b,) float64 in [0, 1).
    """
    kept = select_topk(logits_bc.double().log_softmax(dim=1), topk=topk)
    if topk == logits_bc.shape[1]:
        return kept
    probs_bk = kept.logprobs.double().exp()
    # rests_bk[:, m] is the mass outside the m most probable; summed from the smallest up.
    rests_bk = probs_bk.flip(1).cumsum(dim=1).flip(1) + kept.tail.double().exp()[:, None]
    shares_bk = rests_bk / torch.arange(topk, 0, -1, device=logits_bc.device)
    exact_b = (probs_bk <= shares_bk).int().argmax(dim=1)  # The first m for which it holds; it does for the last.
    exact_bk = torch.arange(topk, device=logits_bc.device) < exact_b[:, None]
    rest_b = rests_bk.gather(1, exact_b[:, None]).squeeze(1)

    logprobs_bc = logits_bc.double().log_softmax(dim=1)
    exact_bc = torch.zeros_like(logprobs_bc, dtype=torch.bool).scatter(1, kept.indices, exact_bk)
    others_bc = logprobs_bc.exp().masked_fill(exact_bc, 0)
    number_b = topk - exact_b
    chances_bc = others_bc * (number_b / others_bc.sum(dim=1))[:, None]
    drawn_bc = _systematic_counts(chances_bc, total=number_b, uniforms_b=uniforms_b) > 0
    ranked_bk, indices_bk = logprobs_bc.masked_fill(~(exact_bc | drawn_bc), _NOTHING).topk(topk, dim=1)
    logprobs_bk = torch.where(exact_bk | ranked_bk.isneginf(), ranked_bk, _DRAWN)
    return SparseTargets(indices_bk, logprobs_bk.float(), rest_b.log().float())


def _systematic_counts(expected_bc: Tensor, *, total: Tensor | int, uniforms_b: Tensor) -> Tensor:
    """(b, c) float64 whole numbers next to the expected counts, which are their means, summing to `total`."""
    ends_bc = expected_bc.cumsum(dim=1)
    ends_bc[:, -1] = torch.as_tensor(total, dtype=ends_bc.dtype)  # Whatever rounding made of the sum.
    points_bc = (ends_bc + uniforms_b[:, None]).floor()
    return points_bc.diff(dim=1, prepend=torch.zeros_like(points_bc[:, :1])).clamp(min=0)


def uniforms(seeds_b: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """A number in [0, 1) from each view's seed, (b,): SplitMix64's output function (Steele et al., 2014), 53 bits."""
    words = seeds_b.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)


def no_targets(num_rows: int, *, topk: int) -> SparseTargets:
    """What is stored for a row whose picture could not be read: no class, all mass in the tail."""
    return SparseTargets(
        torch.arange(topk).repeat(num_rows, 1),
        torch.full((num_rows, topk), float("-inf")),
        torch.zeros(num_rows),
    )
