"""A second small real data set for probes: the 1,797 handwritten digits that scikit-learn ships, as image folders.

    python scripts/demo/digits.py DST                                # -> DST/train (1,297), DST/val (500)

From the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI Machine Learning Repository,
CC BY 4.0): 8 x 8 grey values of 0 to 16. The last 500 in the original order are the validation images.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from sklearn.datasets import load_digits

NUM_VAL = 500


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
def main(target: Path) -> None:
    """Writes TARGET/SPLIT/DIGIT/NUMBER.png."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = target / ("train" if number < len(digits.target) - NUM_VAL else "val") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number:04d}.png"), np.round(image * 255 / 16).astype(np.uint8))
    click.echo(f"{len(digits.target)} images in {target}")


if __name__ == "__main__":
    main()
