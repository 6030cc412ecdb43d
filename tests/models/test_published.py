import pytest
import timm
import torch

from distill import models
from distill.models.cost import published


def test_counts_equal_the_published_table_to_the_printed_digits() -> None:
    counted = published.count_table()
    assert len(counted) == 8
    for line in counted:
        assert (line.params_m, line.macs_g) == (line.row.params_m, line.row.macs_g)
        assert line.equal


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("tiny_vit_5m", {}, ("tiny_vit_5m_224", {})),
        ("tiny_vit_21m", {"image_size": 384}, ("tiny_vit_21m_384", {})),
        ("tiny_vit_21m", {"image_size": 512}, ("tiny_vit_21m_512", {})),
        ("tiny_vit_21m", {"image_size": 256, "windows": [1, 16, 32, 16]}, ("tiny_vit_21m_512", {})),
        ("tiny_vit_11m", {"image_size": 384}, ("tiny_vit_11m_224", {"window_sizes": [12, 12, 24, 12]})),
    ],
)
def test_timm_builds_the_same_network(name: str, options: dict, expected: tuple) -> None:  # type: ignore[type-arg]
    with torch.device("meta"):
        net = models.build(name, num_classes=7, **options)
        found, arguments = published.timm_model(net.config)
        theirs = timm.create_model(found, **arguments)
    assert (found, arguments) == (expected[0], {"num_classes": 7, **expected[1]})
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    assert {name: tensor.shape for name, tensor in theirs.state_dict().items()} == shapes


def test_timm_cannot_build_another_stem(small: models.TinyViT) -> None:
    config = models.TinyViTConfig.from_json({**small.config.to_json(), "stem_stride": 2})
    with pytest.raises(models.ModelError, match="a stem of stride 4, this network one of 2"):
        published.timm_model(config)
