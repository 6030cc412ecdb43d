"""A TinyViT for other classes or another image size, made from a trained one."""

from __future__ import annotations

import dataclasses

from distill.models.errors import ModelError
from distill.models.tinyvit.bias_tables import resize_tables
from distill.models.tinyvit.config import PUBLISHED_WINDOWS
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.class_maps import ClassMap, remap_head


def convert(net: TinyViT, *, class_map: ClassMap | None = None, image_size: int | None = None) -> TinyViT:
    """Converts a TinyViT to other classes, another image size, or both.

    **Arguments**

    - `net`: left unchanged.
    - `class_map`: from the classes of `net` to others, such as `match_classes("imagenet_22k", "imagenet_1k")`: the
      head is mapped by WordNet ids; None keeps the classes.
    - `image_size`: 224, 384 or 512 pixels, with the attention windows published for it, to which the bias tables are
      resized (bicubic, as in the published fine-tuning: `distill.models.tinyvit.bias_tables`); None keeps both.

    **Returns** a new network in evaluation mode, on the device of `net`. Without `image_size` its logits are those of
    `net`, mapped.

    **Raises** ModelError where the map is for another number of classes, or no windows are published for the size.
    """
    config, state = net.config, dict(net.state_dict())
    if class_map is not None:
        state = remap_head(state, class_map)
        config = dataclasses.replace(config, num_classes=class_map.num_targets)
    if image_size is not None and image_size != config.image_size:
        if image_size not in PUBLISHED_WINDOWS:
            sizes = ", ".join(map(str, PUBLISHED_WINDOWS))
            raise ModelError(f"no windows are published for {image_size} px, only for {sizes}")
        config = dataclasses.replace(config, image_size=image_size, windows=PUBLISHED_WINDOWS[image_size])
    converted = TinyViT(config)
    converted.load_state_dict(resize_tables(state, like=converted.state_dict()))
    return converted.to(net.head.fc.weight.device).eval()
