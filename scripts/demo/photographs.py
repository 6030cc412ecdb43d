"""An image folder of real photographs, made from the free ones that scikit-image and scikit-learn ship.

    python scripts/demo/photographs.py runs/photos/images --per-photo 24

Each photograph becomes a class of JPEG files: random crops of many sizes, some mirrored, at several qualities.
astronaut and hubble_deep_field: NASA, public domain. camera, chelsea, coffee, rocket: CC0. china, flower: CC BY 2.0
by danielbuechele and vultilion.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
import skimage
import sklearn.datasets

PHOTOS = {
    "astronaut": skimage, "camera": skimage, "chelsea": skimage, "coffee": skimage, "hubble_deep_field": skimage,
    "rocket": skimage, "china": sklearn.datasets, "flower": sklearn.datasets,
}  # fmt: skip


def photograph(name: str) -> np.ndarray:
    """(H, W, 3) uint8 BGR."""
    folder = Path(str(PHOTOS[name].__file__)).parent / ("data" if PHOTOS[name] is skimage else "images")
    (path,) = folder.glob(f"{name}.*")
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert pixels is not None, path
    return pixels


def write_photographs(target: Path, *, per_photo: int, seed: int) -> None:
    """Writes `target`/NAME/NUMBER.jpg, `per_photo` files of each photograph."""
    random = np.random.default_rng(seed)
    for name in PHOTOS:
        image = photograph(name)
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        height, width = image.shape[:2]
        for number in range(per_photo):
            fractions = random.uniform(0.5, 1.0, 2)
            rows, columns = round(height * fractions[0]), round(width * fractions[1])
            top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
            crop = image[top : top + rows, left : left + columns]
            crop = crop[:, ::-1] if random.random() < 0.5 else crop
            scale = random.uniform(200, 500) / min(rows, columns)
            crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            quality = int(random.choice([60, 75, 90, 95]))
            cv2.imwrite(str(folder / f"{number:03d}.jpg"), crop, [cv2.IMWRITE_JPEG_QUALITY, quality])


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--per-photo", default=24, show_default=True, help="JPEG files per photograph.")
@click.option("--seed", default=0, show_default=True)
def main(target: Path, per_photo: int, seed: int) -> None:
    """Writes TARGET/NAME/NUMBER.jpg."""
    write_photographs(target, per_photo=per_photo, seed=seed)
    click.echo(f"{per_photo * len(PHOTOS)} photographs in {target}")


if __name__ == "__main__":
    main()
