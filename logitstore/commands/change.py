"""Change stores, and make stores from stores: `grow`, `merge`, `copy`, `upgrade`, `recode`, `repair`, `restore`."""

import sys
from dataclasses import asdict

import click

from logitstore import FORMAT_VERSION, StoreConflict
from logitstore import grow as grow_store
from logitstore import open as open_store
from logitstore.commands.terminal import AS_JSON, EPOCHS, STORE, parse_epochs, print_json, progress_bar
from logitstore.spec import TOPK_ENCODINGS
from logitstore.tools.recode import recode as recode_store
from logitstore.tools.repair import repair as repair_store
from logitstore.tools.repair import restore as restore_store
from logitstore.tools.transfer import Transfer
from logitstore.tools.transfer import copy as copy_store
from logitstore.tools.transfer import merge as merge_stores


@click.command()
@STORE
@click.option("--epochs", type=click.IntRange(min=1), required=True, help="How many epochs it shall have in all.")
@AS_JSON
def grow(store: str, epochs: int, as_json: bool) -> None:
    """Add epochs to a store; the teacher pass then writes them.

    `distill.save_logits` with a larger store.epochs does the same by itself.

    \b
    Example:
      logitstore grow teacher.zarr --epochs 4
    """
    before = open_store(store).spec.num_epochs
    grow_store(store, epochs=epochs)
    if as_json:
        print_json({"path": store, "epochs_before": before, "epochs": epochs})
    else:
        click.echo(f"{store} has {epochs} epochs, {epochs - before} of them new")


@click.command()
@click.argument("target")
@click.argument("sources", nargs=-1, required=True)
@AS_JSON
def merge(target: str, sources: tuple[str, ...], as_json: bool) -> None:
    """Copy the blocks of SOURCES into TARGET, which is created where there is none.

    For parts of one store written on different machines. Sources must have one spec; a block that several hold must be
    the same in all. Everything is compared before anything is written, and verified at the end.

    \b
    Example:
      logitstore merge whole.zarr part-a.zarr part-b.zarr
    """
    with progress_bar(shown=not as_json) as bar:
        _print_transfer(merge_stores(target, sources, progress=bar), as_json=as_json)


@click.command()
@click.argument("source")
@click.argument("target")
@EPOCHS
@AS_JSON
def copy(source: str, target: str, epochs: str | None, as_json: bool) -> None:
    """Publish or fetch a store, or some of its epochs: from a path or URL to a path or URL.

    If stopped, the same command continues with the blocks that are missing. All are verified at the end.

    \b
    Example:
      logitstore copy teacher.zarr s3://bucket/teacher.zarr --epochs 0,2-3
    """
    chosen = parse_epochs(epochs)
    with progress_bar(shown=not as_json) as bar:
        _print_transfer(copy_store(source, target, epochs=chosen, progress=bar), as_json=as_json)


@click.command()
@click.argument("source")
@click.argument("target")
@AS_JSON
def upgrade(source: str, target: str, as_json: bool) -> None:
    """Make a store of the newest format version from an older one: the same blocks, samples and tail model.

    SOURCE stays as it is. If stopped, the same command continues. `logitstore info` says of which version a store is.

    \b
    Example:
      logitstore upgrade old.zarr new.zarr
    """
    version = open_store(source).format_version
    if version == FORMAT_VERSION:
        raise StoreConflict(f"{source} is of format version {version} already, the newest: there is nothing to do")
    with progress_bar(shown=not as_json) as bar:
        _print_transfer(copy_store(source, target, progress=bar), as_json=as_json)


@click.command()
@click.argument("source")
@click.argument("target")
@click.option(
    "--topk", type=click.IntRange(min=1), help="Classes per view; the mass of the others is added to the tail."
)
@click.option("--encoding", type=click.Choice(TOPK_ENCODINGS), help="As it is when left out.")
@EPOCHS
@AS_JSON
def recode(source: str, target: str, topk: int | None, encoding: str | None, epochs: str | None, as_json: bool) -> None:
    """Make a store from another one, with a smaller k or in another encoding.

    \b
    Example:
      logitstore recode teacher.zarr small.zarr --topk 2
    """
    chosen = parse_epochs(epochs)
    with progress_bar(shown=not as_json) as bar:
        spec = recode_store(source, target, topk=topk, encoding=encoding, epochs=chosen, progress=bar)
    blocks = int(open_store(target).done().sum())
    if as_json:
        print_json({"path": target, "topk": spec.topk, "encoding": spec.encoding, "blocks_committed": blocks})
    else:
        click.echo(f"{target}: {blocks:,} blocks, {spec.topk} of {spec.num_classes:,} classes, {spec.encoding}")


@click.command()
@STORE
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
@AS_JSON
def repair(store: str, dry_run: bool, as_json: bool) -> None:
    """Take out damaged blocks, so that the teacher pass does them again; good ones are not touched.

    What seems damaged is read again, by other connections and with pauses, and is taken out only where it is damaged
    in the same way each time; it moves to dropped/NAME/ in the store, from where `logitstore restore` brings it back.
    Also rewrites array metadata that contradicts the spec, and deletes the files that killed writes left.

    Exit code 1 when faults remain that only a copy of the store can fix, or passed by themselves.

    \b
    Example:
      logitstore repair teacher.zarr --dry-run
    """
    with progress_bar(shown=not as_json) as bar:
        report = repair_store(store, dry_run=dry_run, progress=lambda at, of: bar("checking blocks", at, of))
    if as_json:
        print_json(report.to_json())
    else:
        would = "would be " if dry_run else ""
        for epoch, block in report.dropped:
            click.echo(f"epoch {epoch}, block {block}: {would}dropped")
        for epoch, block in report.passing:
            click.echo(f"epoch {epoch}, block {block}: read well after all; the fault is the network's or the disk's")
        for key in report.metadata:
            click.echo(f"{key}: {would}rewritten")
        for key in report.temporary:
            click.echo(f"{key}: {would}deleted")
        for finding in report.left:
            click.echo(f"fault {finding.id}: {finding.message}")
        click.echo(f"{report.path}: {len(report.dropped)} blocks {would}dropped, {len(report.left)} faults remain")
        if report.dropped and not dry_run:
            click.echo(f"to bring them back: logitstore restore {report.path} {report.name}")
    sys.exit(1 if report.left or report.passing else 0)


@click.command()
@STORE
@click.argument("name")
@AS_JSON
def restore(store: str, name: str, as_json: bool) -> None:
    """Bring back the blocks that a repair took out, just as they were: NAME is what `logitstore repair` said.

    Blocks that were written anew meanwhile stay. Exit code 1 when a block that came back is damaged.

    \b
    Example:
      logitstore restore teacher.zarr 20261126T120000-1f2e
    """
    result = restore_store(store, name)
    if as_json:
        print_json(asdict(result))
    else:
        for epoch, block in result.restored:
            click.echo(f"epoch {epoch}, block {block}: restored")
        for epoch, block in result.kept:
            click.echo(f"epoch {epoch}, block {block}: has been written anew, and stays")
        for finding in result.damaged:
            click.echo(f"fault {finding.id}: {finding.message}")
        click.echo(f"{result.path}: {len(result.restored)} blocks restored, {len(result.damaged)} faults in them")
    sys.exit(1 if result.damaged else 0)


def _print_transfer(result: Transfer, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(result))
        return
    present = f"{result.blocks_present:,} were there" if result.blocks_present else "none was there"
    written, verified = f"{result.blocks_written:,} blocks written", f"{result.blocks_verified:,} verified"
    click.echo(f"{result.path}: {written}, {present}, {verified}")
