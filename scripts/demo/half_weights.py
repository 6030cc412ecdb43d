"""Saves a student's weights in float16, which halves the size, with the metadata of its file.

python scripts/demo/half_weights.py RUN/student.safetensors OUT.safetensors
"""

from __future__ import annotations

import json

import click
import torch

from distill import models


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.argument("target", type=click.Path(dir_okay=False))
def main(source: str, target: str) -> None:
    """Writes the weights in SOURCE to TARGET in float16."""
    model = models.build_teacher(kind="tiny_vit", weights=source)
    assert isinstance(model.net, models.TinyViT)
    header = models.describe_weights(source)
    names = ("mean", "std", "crop", "interpolation", "class_names")
    metadata = {name: json.dumps(header[name]) for name in names if header[name] is not None}
    models.save_weights(model.net, target, metadata=metadata, dtype=torch.float16)


if __name__ == "__main__":
    main()
