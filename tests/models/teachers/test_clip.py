"""The published teacher in a timm ViT: against a plain CLIP tower, and at full size without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from distill import models
from distill.models.teachers import clip

LAYOUT = Path(__file__).parent / "layouts" / "clip_vit_large14_21k.tsv"
WIDTH, LAYERS, PATCH, GRID, EMBED, CLASSES = 128, 2, 8, 3, 48, 11


def small_shape(name: str) -> tuple[int, ...] | None:
    """Shape of a tensor of the published file in a tower of two layers; None for one of a layer it lacks."""
    parts = name.split(".")
    if "resblocks" in parts and int(parts[3]) >= LAYERS:
        return None
    if name == "visual.positional_embedding":
        return (GRID**2 + 1, WIDTH)
    if name == "visual.conv1.weight":
        return (WIDTH, 3, PATCH, PATCH)
    scaled = {1024: WIDTH, 3072: 3 * WIDTH, 4096: 4 * WIDTH, 768: EMBED, 21841: CLASSES}
    return tuple(scaled[size] for size in published()[name])


def published() -> dict[str, tuple[int, ...]]:
    lines = (line.split("\t") for line in LAYOUT.read_text().splitlines())
    return {name: tuple(map(int, shape.split("x"))) for name, shape, _ in lines}


@pytest.fixture
def state() -> dict[str, Tensor]:
    """Every tensor random, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(0)
    shapes = {name: shape for name in published() if (shape := small_shape(name))}
    state = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    return {
        name: tensor + 1 if ".ln_" in name and name.endswith("weight") else tensor for name, tensor in state.items()
    }


def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def attention(state: dict[str, Tensor], block: str, x_nc: Tensor) -> Tensor:
    projected = x_nc @ state[f"{block}.attn.in_proj_weight"].T + state[f"{block}.attn.in_proj_bias"]
    q_nc, k_nc, v_nc = projected.chunk(3, dim=1)
    out = []
    for head in range(WIDTH // 64):
        part = slice(64 * head, 64 * head + 64)
        scores_nn = q_nc[:, part] @ k_nc[:, part].T / 8
        out.append(scores_nn.softmax(1) @ v_nc[:, part])
    return torch.cat(out, 1) @ state[f"{block}.attn.out_proj.weight"].T + state[f"{block}.attn.out_proj.bias"]


def reference(state: dict[str, Tensor], pixels_chw: Tensor) -> Tensor:
    """The logits of one image, step by step as in the CLIP paper."""
    patches_pc = torch.stack(
        [
            (state["visual.conv1.weight"] * pixels_chw[:, y : y + PATCH, x : x + PATCH]).sum((1, 2, 3))
            for y in range(0, GRID * PATCH, PATCH)
            for x in range(0, GRID * PATCH, PATCH)
        ]
    )
    x_nc = torch.cat([state["visual.class_embedding"][None], patches_pc]) + state["visual.positional_embedding"]
    x_nc = norm(state, "visual.ln_pre", x_nc)
    for layer in range(LAYERS):
        block = f"visual.transformer.resblocks.{layer}"
        x_nc = x_nc + attention(state, block, norm(state, f"{block}.ln_1", x_nc))
        hidden = norm(state, f"{block}.ln_2", x_nc) @ state[f"{block}.mlp.c_fc.weight"].T
        hidden = hidden + state[f"{block}.mlp.c_fc.bias"]
        hidden = hidden / (1 + (-1.702 * hidden).exp())
        x_nc = x_nc + hidden @ state[f"{block}.mlp.c_proj.weight"].T + state[f"{block}.mlp.c_proj.bias"]
    feature_e = norm(state, "visual.ln_post", x_nc[0]) @ state["visual.proj"]
    return state["head.weight"] @ feature_e + state["head.bias"]


@pytest.mark.parametrize("wrap", [False, True])
def test_teacher_equals_a_plain_clip_tower(state: dict[str, Tensor], wrap: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}} if wrap else state, path)
    teacher = models.build_teacher(kind="clip", weights=path)
    assert (teacher.num_classes, teacher.image_size, teacher.class_names) == (CLASSES, GRID * PATCH, None)
    assert (teacher.mean, teacher.std) == (clip.CLIP_MEAN, clip.CLIP_STD)
    pixels = torch.randn(3, 3, GRID * PATCH, GRID * PATCH, generator=torch.Generator().manual_seed(1))
    exact = {name: tensor.double() for name, tensor in state.items()}
    expected = torch.stack([reference(exact, pixels_chw.double()) for pixels_chw in pixels])
    assert expected.std() > 0.1
    torch.testing.assert_close(teacher.net(pixels).double(), expected, rtol=0, atol=1e-5)


def test_full_size_is_timms_model_with_a_projected_head() -> None:
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in published().items()}
        net: Any = clip.create_clip(state)
        timms: Any = timm.create_model("vit_large_patch14_clip_quickgelu_224", num_classes=0)
    body = {name: tensor.shape for name, tensor in net.state_dict().items() if not name.startswith("head.")}
    assert body == {name: tensor.shape for name, tensor in timms.state_dict().items()}
    assert {clip.to_timm(name) for name in state} == set(net.state_dict())
    assert [tuple(net.get_parameter(name).shape) for name in ("head.0.weight", "head.1.weight", "head.1.bias")] == [
        *((768, 1024), (21841, 768), (21841,))
    ]
    assert clip.clip_image_size(net) == 224
    assert repr(net.blocks[0]) == repr(timms.blocks[0])  # activation, eps, head count


def test_files_that_do_not_fit_are_refused_by_name(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(state, path)
    with pytest.raises(models.WeightsError, match=r"a\.pth are for 11 classes, the model has 21841"):
        models.build_teacher(kind="clip", weights=path, num_classes=21841)
    with pytest.raises(models.ModelError, match=r"takes images of 24 px, not of 224"):
        models.build_teacher(kind="clip", weights=path, image_size=224)
    with pytest.raises(models.ModelError, match="needs weights=FILE"):
        models.build_teacher(kind="clip")
    torch.save({name: tensor for name, tensor in state.items() if name != "visual.ln_post.bias"}, path)
    with pytest.raises(models.WeightsError, match=r"missing norm\.bias"):
        models.build_teacher(kind="clip", weights=path)
    torch.save({name: tensor for name, tensor in state.items() if not name.startswith("head.")}, path)
    with pytest.raises(models.WeightsError, match=r"no CLIP visual tower with a linear head: it has no head\.weight"):
        models.build_teacher(kind="clip", weights=path)
    torch.save({name: tensor for name, tensor in state.items() if name != "visual.proj"}, path)
    with pytest.raises(models.WeightsError, match=r"visual\.proj"):
        models.build_teacher(kind="clip", weights=path)
