"""TinyViT, written from the paper (arXiv 2207.10666) and its published dimensions.

    pixels (B, 3, S, S), normalised
      -> stem            two 3x3 convolutions                                         S/4
      -> stages[0]       MBConv blocks                                                S/4
      -> stages[1..3]    PatchMerging, then blocks of window attention,               S/8, S/16, S/32
                         3x3 depthwise convolution and MLP
      -> head            mean over positions, LayerNorm, linear -> logits (B, C)

Every convolution is followed by BatchNorm, attention and MLP are preceded by LayerNorm, activations are exact GELU.
Parameter names are those of timm's `tiny_vit_*`, so weights need no renaming in either direction. Other layouts are
read by `distill.models.weights.load`; dimensions come from `distill.models.tinyvit.config`.

Shape suffixes: b batch, h and w height and width of a map, c channels. Between modules maps are (b, c, h, w) in shape;
after the first attention they are channels_last in memory, so permuting them to (b, h, w, c) copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from distill.models.tinyvit.attention import WindowAttention
from distill.models.tinyvit.checkpointing import checkpointed
from distill.models.tinyvit.config import NUM_STAGES, TinyViTConfig
from distill.models.tinyvit.cpu_layers import GELU, Depthwise, Linear
from distill.models.tinyvit.input_size import Size, change_input_size


class ConvNorm(nn.Module):
    """Convolution without bias, padded so that a stride of 1 keeps the size, and BatchNorm."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        scale_init: float = 1.0,
    ) -> None:
        super().__init__()
        if groups == 1:
            self.conv = nn.Conv2d(in_dim, out_dim, kernel, stride=stride, padding=kernel // 2, bias=False)
        else:
            self.conv = Depthwise(out_dim, stride=stride)
        self.bn = nn.BatchNorm2d(out_dim)
        nn.init.constant_(self.bn.weight, scale_init)

    def forward(self, x_bchw: Tensor) -> Tensor:
        y_bchw: Tensor = self.bn(self.conv(x_bchw))
        return y_bchw


class Stem(nn.Module):
    """Two overlapping 3x3 convolutions from pixels to the first feature map; the first has stride 2, the second
    stride / 2."""

    def __init__(self, dim: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, dim // 2, kernel=3, stride=2)
        self.act = GELU()
        self.conv2 = ConvNorm(dim // 2, dim, kernel=3, stride=stride // 2)

    def forward(self, pixels_bchw: Tensor) -> Tensor:
        x_bchw: Tensor = self.conv2(self.act(self.conv1(pixels_bchw)))
        return x_bchw


class MBConv(nn.Module):
    """Inverted bottleneck with a residual: 1x1 expansion, 3x3 depthwise, 1x1 projection; activation after the sum."""

    def __init__(self, dim: int, *, expand: float, drop_path: float) -> None:
        super().__init__()
        hidden = int(dim * expand)
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, kernel=3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim, scale_init=0.0)  # a new block is the identity before its last activation
        self.act1, self.act2, self.act3 = GELU(), GELU(), GELU()
        self.drop_path = DropPath(drop_path)

    def forward(self, x_bchw: Tensor) -> Tensor:
        hidden_bchw = self.act2(self.conv2(self.act1(self.conv1(x_bchw))))
        y_bchw: Tensor = self.act3(x_bchw + self.drop_path(self.conv3(hidden_bchw)))
        return y_bchw


class PatchMerging(nn.Module):
    """Halves height and width between stages: 1x1, 3x3 depthwise of stride 2, 1x1."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_dim, out_dim)
        self.conv2 = ConvNorm(out_dim, out_dim, kernel=3, stride=2, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim)
        self.act1, self.act2 = GELU(), GELU()

    def forward(self, x_bchw: Tensor) -> Tensor:
        y_bchw: Tensor = self.conv3(self.act2(self.conv2(self.act1(self.conv1(x_bchw)))))
        return y_bchw


class MLP(nn.Module):
    """LayerNorm, then two linear maps with GELU between, all on the last axis."""

    def __init__(self, dim: int, *, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = Linear(dim, hidden)
        self.act = GELU()
        self.fc2 = Linear(hidden, dim)

    def forward(self, x_bhwc: Tensor) -> Tensor:
        y_bhwc: Tensor = self.fc2(self.act(self.fc1(self.norm(x_bhwc))))
        return y_bhwc


class AttentionBlock(nn.Module):
    """x + attention in windows; 3x3 depthwise convolution; x + MLP."""

    def __init__(self, dim: int, *, heads: int, window: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, heads=heads, window=window)
        self.local_conv = ConvNorm(dim, dim, kernel=3, groups=dim)
        self.mlp = MLP(dim, ratio=mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_bchw: Tensor) -> Tensor:
        x_bhwc: Tensor = x_bchw.permute(0, 2, 3, 1)
        x_bhwc = x_bhwc + self.drop_path(self.attn(x_bhwc))
        x_bhwc = self.local_conv(x_bhwc.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x_bhwc = x_bhwc + self.drop_path(self.mlp(x_bhwc))
        return x_bhwc.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Optional patch merging, then blocks. Maps (b, c, h, w) -> (b, c', h', w')."""

    def __init__(self, blocks: list[nn.Module], *, downsample: PatchMerging | None) -> None:
        super().__init__()
        if downsample is not None:
            self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)
        self.merges = downsample is not None
        self.checkpointing = False

    def forward(self, x_bchw: Tensor) -> Tensor:
        x_bchw = self.downsample(x_bchw) if self.merges else x_bchw
        recompute = self.checkpointing and self.training and torch.is_grad_enabled()
        y_bchw: Tensor = checkpointed(self.blocks, x_bchw) if recompute else self.blocks(x_bchw)
        return y_bchw


class Head(nn.Module):
    """Mean over positions, LayerNorm, linear."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc = Linear(dim, num_classes)

    def forward(self, x_bchw: Tensor) -> Tensor:
        logits_bc: Tensor = self.fc(self.norm(x_bchw.mean((2, 3))))
        return logits_bc


class TinyViT(nn.Module):
    """The network of a `TinyViTConfig`, freshly initialised, in training mode (`distill.models.build`).

    `forward` takes normalised float pixels (B, 3, H, W), H and W of any size from 8 px, and returns logits
    (B, num_classes). Wu et al., "TinyViT" (ECCV 2022, arXiv 2207.10666), section 3.3.
    """

    def __init__(self, config: TinyViTConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.patch_embed = Stem(config.dims[0], stride=config.stem_stride)
        self.stages = nn.Sequential(*_stages(config))
        self.head = Head(config.dims[-1], config.num_classes)
        self.apply(_init_linear)

    def forward(self, pixels_bchw: Tensor) -> Tensor:
        """Normalised float pixels (B, 3, H, W) -> logits (B, num_classes)."""
        logits_bc: Tensor = self.head(self.forward_features(pixels_bchw))
        return logits_bc

    def forward_features(self, pixels_bchw: Tensor) -> Tensor:
        """Normalised float pixels (B, 3, H, W) -> last feature map (B, dims[3], h, w)."""
        x_bchw: Tensor = self.stages(self.patch_embed(pixels_bchw))
        return x_bchw

    def set_input_size(self, size: Size, *, windows: Sequence[int] | None = None) -> None:
        """Sets the image size that the network is meant for. With or without this call it takes images of any size.

        **Arguments**

        - `size`: side, or height and width, in pixels. A square is recorded in `config` and in saved weights.
        - `windows`: four sides of attention windows, in positions, to which the bias tables are resized
          (`distill.models.tinyvit.bias_tables`); None leaves windows and logits unchanged. The tables become new
          parameters, so create the optimiser afterwards.

        **Raises** ModelError for a wrong size or wrong windows; nothing is changed then.
        """
        self.config = change_input_size(self.stages, self.config, size, windows=windows)

    def checkpoint_blocks(self, on: bool = True) -> None:
        """Turns gradient checkpointing on or off: see `distill.models.tinyvit.checkpointing`."""
        for stage in self.stages:
            assert isinstance(stage, Stage)
            stage.checkpointing = on

    def no_weight_decay(self) -> set[str]:
        """Names of the matrix-shaped parameters without weight decay: the attention-bias tables."""
        return {name for name, _ in self.named_parameters() if name.endswith(".attention_biases")}


def _stages(config: TinyViTConfig) -> list[Stage]:
    rates = iter(torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").tolist())
    stages = []
    for index in range(NUM_STAGES):
        dim = config.dims[index]
        blocks: list[nn.Module] = []
        for _ in range(config.depths[index]):
            if index == 0:
                blocks.append(MBConv(dim, expand=config.expand, drop_path=next(rates)))
            else:
                blocks.append(
                    AttentionBlock(
                        dim,
                        heads=config.heads[index],
                        window=config.windows[index],
                        mlp_ratio=config.mlp_ratio,
                        drop_path=next(rates),
                    )
                )
        downsample = PatchMerging(config.dims[index - 1], dim) if index else None
        stages.append(Stage(blocks, downsample=downsample))
    return stages


def _init_linear(module: nn.Module) -> None:
    """Linear weights from a normal distribution of standard deviation 0.02, truncated at +-2, and biases of zero; other
    layers keep torch's initial values."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
