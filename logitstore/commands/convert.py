"""From and to other formats: `export`, `import-tinyvit`."""

from dataclasses import asdict

import click

from logitstore import open as open_store
from logitstore.commands.terminal import AS_JSON, STORE, print_json, progress_bar
from logitstore.spec import TOPK_ENCODINGS
from logitstore.tools.export import FORMATS
from logitstore.tools.export import export as export_rows
from logitstore.tools.import_tinyvit import import_tinyvit as import_files


def _row_range(_: click.Context, __: click.Parameter, text: str | None) -> range | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    if not colon or not first.isdecimal() or not last.isdecimal():
        raise click.BadParameter(f"{text!r} is not a range of rows such as 0:1000")
    return range(int(first), int(last))


@click.command()
@STORE
@click.argument("file")
@click.option("--format", "form", type=click.Choice(FORMATS), help="By the file's ending when left out.")
@click.option("--epoch", type=click.IntRange(min=0), default=0, show_default=True, help="Stored epoch.")
@click.option("--rows", callback=_row_range, metavar="FIRST:END", help="Rows, END not included; all when left out.")
@AS_JSON
def export(store: str, file: str, form: str | None, epoch: int, rows: range | None, as_json: bool) -> None:
    """Write views of one epoch as parquet (needs pyarrow), npz or JSON lines.

    \b
    Example:
      logitstore export teacher.zarr views.jsonl --epoch 0 --rows 0:1000
    """
    ending = form or file.rpartition(".")[2]
    if ending not in FORMATS:
        raise click.UsageError(f"{file} ends in none of {', '.join(FORMATS)}: give --format")
    with open_store(store) as opened, progress_bar(shown=not as_json) as bar:
        count = export_rows(
            opened, file, form=ending, epoch=epoch, rows=rows, progress=lambda at, of: bar("writing rows", at, of)
        )
    if as_json:
        print_json({"file": file, "format": ending, "views": count})
    else:
        click.echo(f"{file}: {count:,} views")


@click.command("import-tinyvit")
@click.argument("source", type=click.Path(file_okay=False))
@click.argument("target")
@click.option("--classes", type=click.IntRange(min=1), required=True, help="Classes of the teacher (not in the files).")
@click.option("--encoding", type=click.Choice(TOPK_ENCODINGS), default="float16", show_default=True)
@AS_JSON
def import_tinyvit(source: str, target: str, classes: int, encoding: str, as_json: bool) -> None:
    """Import the logits_topK_epochE folders in SOURCE, as TinyViT's own programs store them.

    The store can be inspected, recoded and exported. Its views were drawn by another program and cannot be drawn again,
    so no student can be trained from it here. Views that an epoch lacks are stored without any class.

    \b
    Example:
      logitstore import-tinyvit logits imported.zarr --classes 1000
    """
    with progress_bar(shown=not as_json) as bar:
        result = import_files(source, target, num_classes=classes, encoding=encoding, progress=bar)
    if as_json:
        print_json(asdict(result))
    else:
        click.echo(
            f"{result.path}: {result.views:,} views of {result.num_samples:,} samples in {result.num_epochs} epochs, "
            f"top {result.topk}; {result.missing:,} missing, {result.repeated:,} repeated"
        )
