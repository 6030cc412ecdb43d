"""Packs images from class folders, or from the archives that ImageNet comes in, into tar shards with a catalog.

python -m distill.pack SRC_IMAGE_FOLDER DST --rows-per-shard 1000
python -m distill.pack SRC_IMAGE_FOLDER packed/train --hold-out packed/val
python -m distill.pack ILSVRC2012_img_train.tar IN1K
python -m distill.pack ILSVRC2012_img_val.tar IN1K_VAL --classes LOC_val_solution.csv
python -m distill.pack fall11_whole.tar IN21K            # or the folder of its n*.tar, or of n*.zip
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from distill.config.command import exit_codes
from distill.data.packing.archives import archives_in
from distill.data.packing.hold_out import HoldOut
from distill.data.packing.pack import Packed, pack
from distill.data.packing.recode import BACKGROUNDS, Recode
from distill.runtime.progress import Progress


@click.command(epilog="Example: python -m distill.pack imagenet/train packed/train --workers 16")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--rows-per-shard", default=1000, show_default=True, help="Images in a tar shard.")
@click.option("--seed", default=0, show_default=True, help="Seed of the shuffle.")
@click.option("--workers", default=os.cpu_count(), show_default="cores", help="Processes.")
@click.option("--max-side", type=int, help="Shrink images whose longer side is longer to this many pixels.")
@click.option(
    "--quality", type=int, help="Re-encode every image as a JPEG of this quality (default for shrunk ones: 90)."
)
@click.option("--background", type=click.Choice(list(BACKGROUNDS)), help="Composite transparent images over this.")
@click.option(
    "--hold-out",
    type=click.Path(path_type=Path),
    help="Pack a fraction of each class into this folder, for evaluation.",
)
@click.option("--share", default=0.1, show_default=True, help="Fraction of each class for --hold-out.")
@click.option("--no-labels", is_flag=True, help="Pack images of folders at any depth, without classes.")
@click.option(
    "--classes", type=click.Path(path_type=Path, exists=True),
    help="The class of each image of an archive without folders: LOC_val_solution.csv, any list of names and WordNet "
    "ids, WordNet ids in the order of the names, or ILSVRC2012's development kit.",
)  # fmt: skip
@click.option(
    "--damaged",
    type=click.Choice(["stop", "skip"]),
    help="At images that cannot be read: leave them out, or end without a catalog. Default: skip for folders, stop for "
    "archives.",
)
def main(
    source: Path, target: Path, rows_per_shard: int, seed: int, workers: int, max_side: int | None,
    quality: int | None, background: str | None, hold_out: Path | None, share: float, no_labels: bool,
    classes: Path | None, damaged: str | None,
) -> None:  # fmt: skip
    """Packs every JPEG and PNG of SOURCE into webdataset shards and a catalog at TARGET, a new or empty folder.

    SOURCE is a folder with one sub-folder per class, a tar or zip of such folders, a tar with one tar (or zip) per
    class, or a folder of these. Archives are read in place: nothing is unpacked. Classes are numbered in sorted order,
    which for WordNet ids is the usual one.

    The bytes of images are not changed, unless --max-side, --quality or --background says so. Every image is decoded
    once; those that cannot be decoded are listed in TARGET/unreadable.tsv. A packing that was stopped is resumed by
    the same command.
    """
    with exit_codes():
        if damaged is None:
            damaged = "skip" if source.is_dir() and not archives_in(source) else "stop"
        with Progress("packing", total=0, unit="images") as progress:

            def show(done: int, total: int) -> None:
                progress.total = total
                progress.advance(done - progress.done)

            packed = pack(
                source, target, rows_per_shard=rows_per_shard, seed=seed, workers=workers, labelled=not no_labels,
                classes=classes, damaged=damaged,
                recode=Recode(max_side=max_side, quality=quality, background=background),
                hold_out=HoldOut(target=hold_out, fraction=share) if hold_out else None, progress=show,
            )  # fmt: skip
        report(packed, target)
        if packed.held_out:
            report(packed.held_out, hold_out)


def report(packed: Packed, target: Path | None) -> None:
    click.echo(
        f"{target}: {packed.num_rows} images of {packed.num_classes} classes in {packed.num_shards} shards, "
        f"{packed.size_bytes / 1e6:.1f} MB, fingerprint {packed.fingerprint}"
    )
    if packed.unreadable:
        click.echo(f"{len(packed.unreadable)} files could not be read: {target}/unreadable.tsv lists them")
    if packed.num_transparent:
        click.echo(
            f"{packed.num_transparent} images have transparent pixels, whose colour is arbitrary, often black: "
            "--background white composites these images over white"
        )


if __name__ == "__main__":
    main(prog_name="python -m distill.pack")
