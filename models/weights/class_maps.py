"""From the classes of one classifier to those of another, by WordNet ids.

Serves fine-tuning (the head of a model pretrained on 21,841 classes becomes a head of 1,000) and evaluation (the logits
of such a model are read as logits of 1,000 classes). Both follow one rule, so a re-mapped head gives exactly the
re-mapped logits.

**Lists.** `imagenet_1k` is the usual order, synset ids sorted. `imagenet_22k` is the release of fall 2011: 21,841
synset ids sorted (timm's `imagenet22k_synsets.txt`), the order in which folders of that release sort, and the one of
the published 21,841-class heads: the map it gives agrees with the published one (`imagenet_1kto22k.txt` of the TinyViT
code) at every place compared, which a test keeps. Others that timm ships do not fit those heads: the 21,843 of
`imagenet21k_goog` hold two synsets more, `imagenet22k_ms` puts the thousand classes first.

**Classes without a counterpart** get the mean of the rows that were found, weights and bias, as published heads do; so
their logit is the mean of the other mapped logits. From `imagenet_22k` to `imagenet_1k` that is one class, the teddy
(n04399382).
"""

import dataclasses
import functools
import importlib.resources
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from distill.models.errors import ModelError

NONE = -1
SYNSET_LISTS = {"imagenet_1k": "imagenet_synsets.txt", "imagenet_22k": "imagenet22k_synsets.txt"}
_BY_COUNT = {1000: "imagenet_1k", 21841: "imagenet_22k"}
_SYNSET = re.compile(r"n\d{8}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassMap:
    """Where each class of a target comes from."""

    num_sources: int
    """Classes of the source."""
    sources: tuple[int, ...]
    """For each class of the target, its number in the source; -1 where it has none."""

    def __post_init__(self) -> None:
        if not any(source != NONE for source in self.sources):
            raise ModelError("no class of the target is among the classes of the source: these are not the same ids")

    @property
    def num_targets(self) -> int:
        return len(self.sources)

    @property
    def missing(self) -> tuple[int, ...]:
        """Classes of the target without a counterpart."""
        return tuple(target for target, source in enumerate(self.sources) if source == NONE)

    def rows(self, values: Tensor, *, dim: int = 0) -> Tensor:
        """Re-maps an axis of classes: of a head's weights or bias (dim 0), or of logits (dim 1).

        **Returns** `values` with `num_targets` entries along `dim`; the mean of the found ones where there is none.
        """
        index = torch.tensor(self.sources, device=values.device)
        found = values.index_select(dim, index[index != NONE])
        if not self.missing:
            return found
        both = torch.cat([found, found.mean(dim, keepdim=True)], dim)
        place = torch.cumsum(index != NONE, 0) - 1
        return both.index_select(dim, torch.where(index != NONE, place, found.shape[dim]))


class Remapped(nn.Module):
    """A classifier of a map's source, asked for the classes of its target."""

    def __init__(self, net: nn.Module, class_map: ClassMap) -> None:
        super().__init__()
        self.net = net
        self.class_map = class_map

    def forward(self, pixels_bchw: Tensor) -> Tensor:
        """Normalised pixels -> logits (b, targets)."""
        return self.class_map.rows(self.net(pixels_bchw), dim=1)


def synset_ids(name: str) -> tuple[str, ...]:
    """The WordNet ids of `imagenet_1k` or `imagenet_22k`, in the order of their classes."""
    if name not in SYNSET_LISTS:
        raise ModelError(f"unknown list of classes {name!r}; known: {', '.join(SYNSET_LISTS)}")
    return _read_list(name)


def ids_of_count(num_classes: int) -> tuple[str, ...]:
    """The WordNet ids that a published classifier of so many classes has.

    **Raises** ModelError for a number that is neither 1,000 nor 21,841.
    """
    if num_classes not in _BY_COUNT:
        raise ModelError(
            f"WordNet ids are known for classifiers of {' or '.join(map(str, _BY_COUNT))} classes, "
            f"this one has {num_classes}"
        )
    return synset_ids(_BY_COUNT[num_classes])


def are_synset_ids(names: Sequence[str]) -> bool:
    """Whether all names are WordNet ids, such as n01440764."""
    return bool(names) and all(_SYNSET.fullmatch(name) for name in names)


def match_classes(source: str | Sequence[str], target: str | Sequence[str]) -> ClassMap:
    """The map between two lists of WordNet ids: the name of a list, or the ids in the order of their classes."""
    source_ids = synset_ids(source) if isinstance(source, str) else source
    target_ids = synset_ids(target) if isinstance(target, str) else target
    number = {synset: index for index, synset in enumerate(source_ids)}
    return ClassMap(num_sources=len(source_ids), sources=tuple(number.get(synset, NONE) for synset in target_ids))


def remap_head(
    state: Mapping[str, Tensor], class_map: ClassMap, *, names: Sequence[str] = ("head.fc.weight", "head.fc.bias")
) -> dict[str, Tensor]:
    """A state whose head is for the map's target; other tensors are the same.

    **Raises** ModelError where the head is not of the map's source.
    """
    for name in names:
        if name in state and state[name].shape[0] != class_map.num_sources:
            raise ModelError(
                f"{name} has {state[name].shape[0]} classes, the map of classes starts from {class_map.num_sources}"
            )
    return {name: class_map.rows(tensor) if name in names else tensor for name, tensor in state.items()}


@functools.cache
def _read_list(name: str) -> tuple[str, ...]:
    text = (importlib.resources.files("timm.data") / "_info" / SYNSET_LISTS[name]).read_text()
    return tuple(text.split())
