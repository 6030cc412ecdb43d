"""Stores a student's weights in float16, half the size, with everything else its file says.

python scripts/demo/half_weights.py RUN/student.safetensors OUT.safetensors
"""

from __future__ import annotations

import json
import sys

import torch

from distill import models


def main(source: str, target: str) -> None:
    teacher = models.build_teacher(kind="tiny_vit", weights=source)
    assert isinstance(teacher.net, models.TinyViT)
    about = models.describe_weights(source)
    names = ("mean", "std", "crop", "interpolation", "class_names")
    metadata = {name: json.dumps(about[name]) for name in names if about[name] is not None}
    models.save_weights(teacher.net, target, metadata=metadata, dtype=torch.float16)


if __name__ == "__main__":
    main(*sys.argv[1:])
