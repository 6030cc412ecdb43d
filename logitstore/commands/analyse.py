"""Statistics, comparison, estimates: `stats`, `diff`, `plan`."""

import sys
from typing import Any

import click

from logitstore import open as open_store
from logitstore.commands.terminal import (
    AS_JSON,
    STORE,
    human_bytes,
    print_histogram,
    print_json,
    print_pairs,
    progress_bar,
)
from logitstore.spec import TOPK_ENCODINGS, StoreSpec
from logitstore.tools import stats as statistics
from logitstore.tools.compare import compare
from logitstore.tools.plan import plan as plan_store
from logitstore.untrusted import printable


@click.command()
@STORE
@click.option(
    "--blocks", type=click.IntRange(min=1), help="Read only so many blocks, at even distances; all when left out."
)
@click.option("--classes", type=click.IntRange(min=0), default=10, show_default=True, help="Labels to print.")
@click.option("--plot", metavar="FILE.png", help="Plot the histograms into a file (needs matplotlib).")
@AS_JSON
def stats(store: str, blocks: int | None, classes: int, plot: str | None, as_json: bool) -> None:
    """Statistics of the teacher's outputs: mass of the top-k, certainty, entropy, agreement with labels, bytes.

    The labels with the least agreement are printed, all of them with --json.

    \b
    Example:
      logitstore stats teacher.zarr --plot stats.png
    """
    with open_store(store) as opened, progress_bar(shown=not as_json) as bar:
        facts = statistics.statistics(opened, blocks=blocks, progress=lambda at, of: bar("reading blocks", at, of))
    if plot is not None:
        statistics.plot(facts, plot)
    if as_json:
        print_json(facts)
    else:
        _print_stats(facts, classes=classes)


@click.command()
@click.argument("a")
@click.argument("b")
@AS_JSON
def diff(a: str, b: str, as_json: bool) -> None:
    """Show how two stores of the same rows differ: spec, coverage, content.

    Exit code 0 when they hold the same, 1 when they do not.

    \b
    Example:
      logitstore diff teacher.zarr small.zarr
    """
    with open_store(a) as one, open_store(b) as other, progress_bar(shown=not as_json) as bar:
        facts = compare(one, other, progress=lambda at, of: bar("comparing blocks", at, of))
    if as_json:
        print_json(facts)
    else:
        _print_diff(facts)
    sys.exit(0 if facts["same"] else 1)


@click.command()
@click.option("--samples", type=click.IntRange(min=1), required=True, help="N, images of the data set.")
@click.option("--epochs", type=click.IntRange(min=1), required=True, help="E, stored epochs.")
@click.option("--topk", type=click.IntRange(min=1), default=10, show_default=True, help="Top-k classes per view.")
@click.option("--classes", type=click.IntRange(min=1), default=1000, show_default=True, help="Classes of the teacher.")
@click.option("--encoding", type=click.Choice(TOPK_ENCODINGS), default="log8", show_default=True)
@click.option("--rows-per-block", type=click.IntRange(min=1), default=4096, show_default=True)
@click.option(
    "--images-per-s", type=click.FloatRange(min=0, min_open=True), help="Views per second of the teacher on one GPU."
)
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="GPUs that run at once.")
@AS_JSON
def plan(
    samples: int,
    epochs: int,
    topk: int,
    classes: int,
    encoding: str,
    rows_per_block: int,
    images_per_s: float | None,
    gpus: int,
    as_json: bool,
) -> None:
    """Estimate what a store will cost: bytes, files, hours.

    Bytes per view are estimated from a table of measured sizes (docs/store.md).

    \b
    Example:
      logitstore plan --samples 1281167 --epochs 300 --topk 10 --images-per-s 2500 --gpus 8
    """
    spec = StoreSpec(
        num_samples=samples,
        num_epochs=epochs,
        num_classes=classes,
        topk=topk,
        encoding=encoding,
        rows_per_block=rows_per_block,
        proof_rows=min(2, rows_per_block),
    )
    facts = plan_store(spec, images_per_s=images_per_s, gpus=gpus)
    if as_json:
        print_json(facts)
        return
    published = (
        f"{facts['published_bytes_per_view']} per view in fixed records of seed, class numbers and float16 values"
    )
    rows = [
        ("views", f"{facts['views']:,}"),
        ("bytes", f"about {human_bytes(facts['bytes_total'])}, {facts['bytes_per_view']:.1f} per view"),
        ("published", f"{human_bytes(facts['published_bytes_total'])}, {published}"),
        ("blocks", f"{facts['blocks']:,}, about {human_bytes(facts['bytes_per_block'])} each"),
        ("files", f"{facts['files']:,}, {facts['files_per_block']} per block, in {facts['folders']:,} folders"),
    ]
    if facts["hours"] is not None:
        rows.append(("time", f"{facts['hours']:,.1f} hours, {facts['gpu_hours']:,.1f} GPU hours"))
    print_pairs(rows)


def _print_stats(facts: dict[str, Any], *, classes: int) -> None:
    read = "all" if facts["blocks"] == facts["blocks_committed"] else f"{facts['blocks']:,}"
    click.echo(f"{facts['views']:,} views, {read} of {facts['blocks_committed']:,} blocks")
    for name, title in statistics.QUANTITIES.items():
        click.echo(f"\n{title}: mean {facts[name]['mean']:.4f}")
        print_histogram(facts[name]["counts"], facts[name]["edges"])
    labels = facts["labels"]
    click.echo("")
    if labels["views"] and not labels["comparable"]:
        click.echo("the labels are not the teacher's classes: agreement means nothing")
    elif labels["views"]:
        fraction = labels["top1_agrees"] / labels["views"]
        click.echo(f"most probable class is the label: {fraction:.2%} of {labels['views']:,} views with a label")
        worst = sorted(labels["by_label"], key=lambda entry: (entry["top1_agrees"] / entry["views"], entry["label"]))
        for entry in worst[:classes]:
            agreed = f"{entry['top1_agrees'] / entry['views']:.2%} of {entry['views']:,}"
            click.echo(f"  label {entry['label']} {printable(entry['name'] or '')}".rstrip() + f": {agreed}")
    else:
        click.echo("no labels are known")
    about = "" if facts["bytes_are_exact"] else "about "
    print_pairs([(f"bytes {name}", f"{about}{size:,}") for name, size in facts["bytes_by_array"].items()])


def _print_diff(facts: dict[str, Any]) -> None:
    for line in facts["spec"]:
        click.echo(f"spec: {printable(line)}")
    for name in facts["samples_differ"]:
        click.echo(f"{name} differ")
    rows = [
        ("blocks only in A", f"{facts['only_in_a']:,}"),
        ("blocks only in B", f"{facts['only_in_b']:,}"),
        ("blocks equal", f"{facts['blocks_equal']:,}"),
        ("blocks differing", f"{facts['blocks_differing']:,}"),
    ]
    if facts["blocks_differing"]:
        rows += [
            ("  proofs", f"{facts['proofs_differing']:,} blocks"),
            ("  seeds", f"{facts['seeds_differing']:,} of {facts['views']:,} views"),
            ("  most probable class", f"{facts['top1_differing']:,} views"),
            ("  KL(A || B)", f"mean {facts['kl_mean']:.6f}, worst {facts['kl_worst']:.6f} nats"),
        ]
    print_pairs([*rows, ("verdict", "the same" if facts["same"] else "different")])
