"""Maps of classes: against the published map, and on heads and logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill import models
from distill.models.weights import class_maps

TEDDY = 850


@pytest.fixture(scope="module")
def to_1k() -> models.ClassMap:
    return models.match_classes("imagenet_22k", "imagenet_1k")


def test_map_is_the_published_one(to_1k: models.ClassMap) -> None:
    # Lines 1 to 12, 849 to 853 and the last six of the published imagenet_1kto22k.txt.
    assert (to_1k.num_sources, to_1k.num_targets, to_1k.missing) == (21841, 1000, (TEDDY,))
    assert to_1k.sources[:12] == (359, 368, 460, 475, 486, 492, 496, 514, 516, 525, 547, 548)
    assert to_1k.sources[848:853] == (11109, 11136, -1, 11167, 11185)
    assert to_1k.sources[-6:] == (21169, 21179, 21194, 21198, 21367, 21815)
    assert class_maps.synset_ids("imagenet_1k")[TEDDY] == "n04399382"


def test_lists_are_sorted_ids() -> None:
    for name, count in (("imagenet_1k", 1000), ("imagenet_22k", 21841)):
        ids = class_maps.synset_ids(name)
        assert len(set(ids)) == len(ids) == count
        assert list(ids) == sorted(ids)
        assert class_maps.are_synset_ids(ids)
        assert class_maps.ids_of_count(count) == ids
    with pytest.raises(models.ModelError, match="known for classifiers of 1000 or 21841 classes, this one has 12"):
        class_maps.ids_of_count(12)
    with pytest.raises(models.ModelError, match="unknown list of classes 'imagenet_2k'; known: imagenet_1k"):
        models.match_classes("imagenet_2k", "imagenet_1k")


def test_rows_are_picked_and_the_missing_get_their_mean() -> None:
    class_map = models.match_classes(["n3", "n1", "n2", "n9"], ["n1", "n7", "n3", "n8"])
    assert (class_map.sources, class_map.missing) == ((1, -1, 0, -1), (1, 3))
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0], [100.0, 100.0], [100.0, 100.0]])
    assert class_map.remap(values).tolist() == [[3.0, 30.0], [2.0, 20.0], [1.0, 10.0], [2.0, 20.0]]
    assert class_map.remap(values.T, dim=1).tolist() == class_map.remap(values).T.tolist()
    whole = models.match_classes(["n3", "n1"], ["n1", "n3"])
    assert whole.remap(values[:2]).tolist() == [[3.0, 30.0], [1.0, 10.0]]
    with pytest.raises(models.ModelError, match="not the same ids"):
        models.match_classes(["n1"], ["cat"])


def test_a_remapped_head_gives_the_remapped_logits(
    to_1k: models.ClassMap, small: models.TinyViT, tmp_path: Path
) -> None:
    sizes = small.config.to_json()
    wide = models.TinyViT(models.TinyViTConfig.from_json({**sizes, "num_classes": 21841})).eval()
    torch.nn.init.normal_(wide.head.fc.bias)
    path = tmp_path / "a.safetensors"
    models.save_weights(wide, path, metadata={})
    narrow = models.TinyViT(models.TinyViTConfig.from_json({**sizes, "num_classes": 1000})).eval()
    with pytest.raises(models.WeightsError, match="are for 21841 classes, the model has 1000"):
        models.load_weights(narrow, path)
    models.load_weights(narrow, path, class_map=to_1k)
    pixels = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(narrow(pixels), to_1k.remap(wide(pixels), dim=1), rtol=0, atol=1e-5)
        logits = narrow(pixels)
    others = torch.cat([logits[:, :TEDDY], logits[:, TEDDY + 1 :]], dim=1)
    torch.testing.assert_close(logits[:, TEDDY], others.mean(1), rtol=0, atol=1e-5)
    qkv = "stages.3.blocks.0.attn.qkv.weight"
    assert torch.equal(narrow.get_parameter(qkv), wide.get_parameter(qkv))
    models.save_weights(narrow, path, metadata={})
    with pytest.raises(models.WeightsError, match=r"a\.safetensors: head\.fc\.weight has 1000 classes, .* from 21841"):
        models.load_weights(narrow, path, class_map=to_1k)
