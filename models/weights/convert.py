"""A TinyViT for other classes or another picture size, made from one that has its weights."""

import dataclasses

from distill.models.errors import ModelError
from distill.models.tinyvit.bias_tables import resize_tables
from distill.models.tinyvit.config import PUBLISHED_WINDOWS
from distill.models.tinyvit.network import TinyViT
from distill.models.weights.class_maps import ClassMap, remap_head


def convert(net: TinyViT, *, class_map: ClassMap | None = None, image_size: int | None = None) -> TinyViT:
    """A new network with the weights of `net`, in evaluation mode, on its device; `net` is not changed.

    **Arguments**

    - `class_map`: from the net's classes to the new ones (`distill.models.weights.class_maps`); None keeps them.
    - `image_size`: with the windows published for it, to which the bias tables are resized
      (`distill.models.tinyvit.bias_tables`); None
      keeps both.

    **Raises** ModelError for a map from other classes, or a size without published windows.
    """
    config, state = net.config, dict(net.state_dict())
    if class_map is not None:
        state = remap_head(state, class_map)
        config = dataclasses.replace(config, num_classes=class_map.num_targets)
    if image_size is not None and image_size != config.image_size:
        if image_size not in PUBLISHED_WINDOWS:
            known = ", ".join(map(str, PUBLISHED_WINDOWS))
            raise ModelError(f"no windows are published for {image_size} px, only for {known}")
        config = dataclasses.replace(config, image_size=image_size, windows=PUBLISHED_WINDOWS[image_size])
    converted = TinyViT(config)
    converted.load_state_dict(resize_tables(state, like=converted.state_dict()))
    return converted.to(net.head.fc.weight.device).eval()
