"""Trains a torchvision detector with a TinyViT as its backbone, on images annotated in COCO's format.

    python scripts/detector/train_detector.py COCO/train2017 COCO/annotations/instances_train2017.json \
        --weights runs/a/student.safetensors --out runs/detector --steps 1000 --size 480

An example to start from: one process, no augmentation, no evaluation. It shows how the feature pyramid is used and that
the loss falls, and writes OUT/losses.jsonl and OUT/detector.safetensors (a state dict for
`distill.models.features.detection`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import numpy as np
import safetensors.torch
import torch
from torch import Tensor

import distill.config.command
from distill import models
from distill.data.loader import load
from distill.errors import DistillError
from distill.models.features.detection import KINDS, build_detector
from distill.models.teachers.build import IMAGENET_MEAN, IMAGENET_STD
from scripts.detector.coco import AnnotatedImages, Target, read_annotations

WARMUP = 0.1
"""Fraction of the steps in which the learning rate rises."""
CLIP_GRAD = 1.0


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("annotations", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for losses and weights.")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Weights of a TinyViT classifier; random ones when left out."
)
@click.option("--name", help="Name of the model, where the weights do not say it: tiny_vit_5m, ...")
@click.option("--kind", type=click.Choice(KINDS), default="retinanet", show_default=True)
@click.option("--size", default=320, show_default=True, help="Shorter side of the images, in pixels.")
@click.option("--channels", default=256, show_default=True, help="Channels of the feature pyramid network.")
@click.option("--steps", default=200, show_default=True)
@click.option("--batch-size", default=4, show_default=True)
@click.option("--lr", default=2e-4, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(images: Path, annotations: Path, out: Path, weights: Path | None, name: str | None, kind: str, size: int,
    channels: int, steps: int, batch_size: int, lr: float, workers: int, seed: int) -> None:  # fmt: skip
    with distill.config.command.exit_codes():
        boxes = read_annotations(annotations)
        click.echo(
            f"{len(boxes)} images, {len(boxes.labels)} boxes of {len(boxes.class_names)} classes; "
            f"{boxes.num_left_out} annotations left out"
        )
        torch.manual_seed(seed)
        detector = make_detector(
            weights, name, kind=kind, num_classes=len(boxes.class_names), size=size, channels=channels
        )
        try:
            out.mkdir(parents=True)
        except OSError as error:
            raise DistillError(f"cannot make the folder {out} ({error.strerror}): name a new one with --out") from None
        dataset = AnnotatedImages(images, boxes)
        rows = (row for batch in batches(len(dataset), batch_size=batch_size, steps=steps, seed=seed) for row in batch)
        losses = train(
            detector, load(dataset, rows, workers=workers), steps=steps, batch_size=batch_size, lr=lr, out=out
        )
        safetensors.torch.save_file(
            {key: tensor.contiguous() for key, tensor in detector.state_dict().items()},
            out / "detector.safetensors", metadata={"kind": kind, "class_names": json.dumps(boxes.class_names)},
        )  # fmt: skip
        tenth = max(1, steps // 10)
        click.echo(
            f"loss {np.mean(losses[:tenth]):.3f} in the first {tenth} steps, {np.mean(losses[-tenth:]):.3f} in the last"
        )


def make_detector(
    weights: Path | None, name: str | None, *, kind: str, num_classes: int, size: int, channels: int
) -> torch.nn.Module:
    """A detector on the feature pyramid of a TinyViT with these weights."""
    out_indices = (1, 2, 3) if kind == "retinanet" else (0, 1, 2, 3)
    if weights is None and name is None:
        name = "tiny_vit_5m"
    features = models.build_features(name, weights=weights, out_indices=out_indices)
    features.set_input_size(size)
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if weights is not None and name is None:
        header = models.describe_weights(weights)
        mean, std = header["mean"] or mean, header["std"] or std
    return build_detector(
        kind, features, num_classes=num_classes, image_size=size, mean=mean, std=std, channels=channels
    )  # fmt: skip


def batches(num_rows: int, *, batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """The rows of every step, from one shuffled epoch after the other."""
    epoch, waiting = 0, np.empty(0, np.int64)
    for _ in range(steps):
        while len(waiting) < batch_size:
            waiting = np.append(waiting, np.random.default_rng([seed, epoch]).permutation(num_rows))
            epoch += 1
        yield waiting[:batch_size].tolist()
        waiting = waiting[batch_size:]


def train(
    detector: torch.nn.Module, examples: Iterator[tuple[Tensor, Target]], *, steps: int, batch_size: int, lr: float,
    out: Path,
) -> list[float]:  # fmt: skip
    """Trains for `steps` steps and writes a line for each. **Returns** the losses.

    **Raises:** `DistillError` at a loss that is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector.to(device).train()
    parameters = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.05)
    warmup = max(1, round(WARMUP * steps))
    losses = []
    with (out / "losses.jsonl").open("w") as log:
        for step in range(1, steps + 1):
            batch = [next(examples) for _ in range(batch_size)]
            targets = [{name: tensor.to(device) for name, tensor in target.items()} for _, target in batch]
            losses_by_name = detector([pixels.to(device) for pixels, _ in batch], targets)
            loss = sum(losses_by_name.values())
            if not torch.isfinite(loss):
                raise DistillError(f"the loss of step {step} is not finite: take a smaller --lr")
            optimizer.param_groups[0]["lr"] = lr * min(1.0, step / warmup)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP_GRAD)
            optimizer.step()
            losses.append(loss.item())
            log.write(
                json.dumps({"step": step, "loss": losses[-1]} | {k: v.item() for k, v in losses_by_name.items()}) + "\n"
            )
            if step % max(1, steps // 20) == 0:
                click.echo(f"step {step}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
