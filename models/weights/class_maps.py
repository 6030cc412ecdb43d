"""Maps from the classes of one classifier to those of another, by WordNet ids.

Used in fine-tuning (the head of a model pretrained on 21,841 classes becomes a head of 1,000) and in evaluation (the
logits of such a model are mapped to logits of 1,000 classes). Both follow one rule, so a mapped head gives exactly the
mapped logits.

**Lists.** `imagenet_1k` has the usual order, sorted WordNet ids. `imagenet_22k` is the release of fall 2011: 21,841
sorted WordNet ids (timm's `imagenet22k_synsets.txt`), which is the order of that release's folders and of the published
21,841-class heads: the resulting map agrees with the published one (`imagenet_1kto22k.txt` of the TinyViT code) at
every entry compared by a test. Other lists in timm do not fit those heads: `imagenet21k_goog` has 21,843 ids, two more,
and `imagenet22k_ms` puts the 1,000 classes first.

**Target classes without a source** get the mean of the mapped rows, weights and bias, as in the published heads; so
their logit is the mean of the other mapped logits. From `imagenet_22k` to `imagenet_1k` this is one class, the teddy
bear (n04399382).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from distill.models.errors import ModelError

NO_SOURCE = -1
SYNSET_LISTS = {"imagenet_1k": "imagenet_synsets.txt", "imagenet_22k": "imagenet22k_synsets.txt"}
_BY_COUNT = {1000: "imagenet_1k", 21841: "imagenet_22k"}
_SYNSET = re.compile(r"n\d{8}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassMap:
    """From the classes of a source classifier to those of a target: made by `match_classes`."""

    num_sources: int
    """Number of source classes."""
    sources: tuple[int, ...]
    """For each target class, the index of its source class; -1 where it has none."""

    def __post_init__(self) -> None:
        if not any(source != NO_SOURCE for source in self.sources):
            raise ModelError("no class of the target is among the classes of the source: these are not the same ids")

    @property
    def num_targets(self) -> int:
        return len(self.sources)

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of the target classes without a source."""
        return tuple(target for target, source in enumerate(self.sources) if source == NO_SOURCE)

    def remap(self, values: Tensor, *, dim: int = 0) -> Tensor:
        """Maps an axis of classes: of a head's weight (C, d) or bias (C,) at dim 0, of logits (b, C) at dim 1.

        **Returns** `values` with `num_targets` instead of `num_sources` entries along `dim`; target classes without a
        source get the mean of the others.
        """
        index = torch.tensor(self.sources, device=values.device)
        mapped = values.index_select(dim, index[index != NO_SOURCE])
        if not self.missing:
            return mapped
        mapped_and_mean = torch.cat([mapped, mapped.mean(dim, keepdim=True)], dim)
        position = torch.cumsum(index != NO_SOURCE, 0) - 1
        return mapped_and_mean.index_select(dim, torch.where(index != NO_SOURCE, position, mapped.shape[dim]))


class Remapped(nn.Module):
    """A classifier of a map's source classes whose logits are mapped to the target classes."""

    def __init__(self, net: nn.Module, class_map: ClassMap) -> None:
        super().__init__()
        self.net = net
        self.class_map = class_map

    def forward(self, pixels_bchw: Tensor) -> Tensor:
        """Normalised float pixels (b, 3, h, w) -> logits (b, num_targets)."""
        return self.class_map.remap(self.net(pixels_bchw), dim=1)


def synset_ids(name: str) -> tuple[str, ...]:
    """The WordNet ids of `imagenet_1k` or `imagenet_22k`, in the order of their classes.

    **Raises** ModelError for another name.
    """
    if name not in SYNSET_LISTS:
        raise ModelError(f"unknown list of classes {name!r}; known: {', '.join(SYNSET_LISTS)}")
    return _read_list(name)


def ids_of_count(num_classes: int) -> tuple[str, ...]:
    """The WordNet ids of a published classifier, in the order of its classes, by their number.

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
    """The map from the classes of one classifier to those of another, by WordNet ids.

    **Arguments:** `source`, `target`: `imagenet_1k`, `imagenet_22k` (the 21,841 classes of published heads), or WordNet
    ids such as n01440764, in the order of the classes.

    **Raises** ModelError for an unknown name, or where no target class is among the source classes.
    """
    source_ids = synset_ids(source) if isinstance(source, str) else source
    target_ids = synset_ids(target) if isinstance(target, str) else target
    index_of = {synset: index for index, synset in enumerate(source_ids)}
    sources = tuple(index_of.get(synset, NO_SOURCE) for synset in target_ids)
    return ClassMap(num_sources=len(source_ids), sources=sources)


def remap_head(
    state: Mapping[str, Tensor], class_map: ClassMap, *, names: Sequence[str] = ("head.fc.weight", "head.fc.bias")
) -> dict[str, Tensor]:
    """A state dict whose head is for the target classes; other tensors stay as they are.

    **Arguments:** `names`: of the head's weight (C, d) and bias (C,).

    **Raises** ModelError where the head has another number of classes than the map's source.
    """
    for name in names:
        if name in state and state[name].shape[0] != class_map.num_sources:
            raise ModelError(
                f"{name} has {state[name].shape[0]} classes, the map of classes starts from {class_map.num_sources}"
            )
    return {name: class_map.remap(tensor) if name in names else tensor for name, tensor in state.items()}


@functools.cache
def _read_list(name: str) -> tuple[str, ...]:
    text = (importlib.resources.files("timm.data") / "_info" / SYNSET_LISTS[name]).read_text()
    return tuple(text.split())
