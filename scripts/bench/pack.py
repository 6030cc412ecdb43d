"""Speed of packing from an archive: a tar of tars of JPEGs made of real photographs.

    python scripts/demo/photographs.py runs/photos/images
    python scripts/bench/pack.py runs/photos/images

The archive holds the photographs' files under several synsets' names, which makes it large enough to measure.
"""

from __future__ import annotations

import io
import shutil
import tarfile
import time
from pathlib import Path

import click

from distill.data.packing.listing import list_source
from distill.data.packing.pack import pack


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def make_archive(images: Path, archive: Path, synsets: int) -> tuple[int, int]:
    """Writes the archive. **Returns** the number of its images and their bytes."""
    files = sorted(images.rglob("*.jpg"))
    count = size = 0
    with tarfile.open(archive, "w") as outer:
        for number in range(synsets):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for n, path in enumerate(files):
                    data = path.read_bytes()
                    add(tar, f"n{number:08d}_{n}.JPEG", data)
                    count, size = count + 1, size + len(data)
            add(outer, f"n{number:08d}.tar", inner.getvalue())
    return count, size


@click.command()
@click.argument("images", type=click.Path(path_type=Path, exists=True))
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/bench_pack"), show_default=True)
@click.option("--synsets", default=20, show_default=True)
@click.option("--workers", type=int, multiple=True, default=(1, 2), show_default=True)
def main(images: Path, work: Path, synsets: int, workers: tuple[int, ...]) -> None:
    """Packs an archive made of the JPEGs under IMAGES and prints images and MB per second."""
    work.mkdir(parents=True)
    count, size = make_archive(images, work / "images.tar", synsets)
    click.echo(f"{count:,} images, {size / count / 1e3:.1f} kB each, in {synsets} tars of one tar")
    began_cpu = time.process_time()
    list_source(work / "images.tar")
    click.echo(f"{'listing':>20} {count / (time.process_time() - began_cpu):>12,.0f} images/s per core")
    for number in workers:
        began, began_cpu = time.perf_counter(), time.process_time()
        pack(work / "images.tar", work / "data", workers=number)
        seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        of_core = f", {count / cpu:,.0f} images/s per core" if number == 1 else ""
        click.echo(
            f"{f'packing, {number}':>20} {count / seconds:>12,.0f} images/s {size / seconds / 1e6:8.1f} MB/s{of_core}"
        )
        shutil.rmtree(work / "data")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
