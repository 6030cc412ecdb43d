"""Packs an image folder (one sub-folder a class) into tar shards with a catalog.

python scripts/pack.py SRC_IMAGE_FOLDER DST --rows-per-shard 1000
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from distill.command import exit_codes
from distill.data.pack import pack
from distill.data.recode import Recode
from distill.progress import Progress


@click.command(epilog="Example: python scripts/pack.py imagenet/train packed/train --workers 16")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--rows-per-shard", default=1000, show_default=True, help="Images in a tar shard.")
@click.option("--seed", default=0, show_default=True, help="Of the one shuffle.")
@click.option("--workers", default=os.cpu_count(), show_default="cores", help="Processes.")
@click.option("--max-side", type=int, help="Shrink pictures whose longer side is longer, to this many pixels.")
@click.option("--quality", type=int, help="Re-encode every picture as a JPEG of this quality (shrunk ones: 90).")
@click.option("--no-labels", is_flag=True, help="Take images at any depth, without classes.")
def main(
    source: Path, target: Path, rows_per_shard: int, seed: int, workers: int, max_side: int | None,
    quality: int | None, no_labels: bool,
) -> None:  # fmt: skip
    """Packs every JPEG and PNG under SOURCE into webdataset shards and a catalog at TARGET, a new or empty folder.

    Bytes are kept as they are, unless --max-side or --quality asks for smaller ones. Every image is decoded once to
    see that it can be; what cannot is left out and listed in TARGET/unreadable.tsv.
    """
    with exit_codes():
        with Progress("packing", total=0, unit="images") as progress:

            def show(done: int, total: int) -> None:
                progress.total = total
                progress.advance(done - progress.done)

            packed = pack(
                source, target, rows_per_shard=rows_per_shard, seed=seed, workers=workers, labelled=not no_labels,
                smaller=Recode(max_side=max_side, quality=quality),                progress=show,
            )  # fmt: skip
        click.echo(
            f"{packed.num_rows} images of {packed.num_classes} classes in {packed.num_shards} shards, "
            f"{packed.size_bytes / 1e6:.1f} MB, fingerprint {packed.fingerprint}"
        )
        if packed.unreadable:
            click.echo(f"{len(packed.unreadable)} files could not be read: {target / 'unreadable.tsv'} lists them")


if __name__ == "__main__":
    main()
