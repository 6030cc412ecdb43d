"""A store as one HTML page, to be opened from disk: what it is, what the teacher said, and the pictures it saw.

    python -m distill.gallery store.path=T.zarr data.path=DATA out=gallery.html
    python -m distill.gallery store.path=T.zarr data.path=DATA out=gallery.html runs=[runs/a,runs/b]
    python -m distill.gallery store.path=T.zarr data.path=DATA out=gallery.html show.pick=[12,340] show.epochs=4
    python -m distill.gallery store.path=s3://bucket/T.zarr out=gallery.html

Rows are drawn at random, and those that stand out are looked for in `scan.blocks` blocks: hardest, most disputed
between epochs, most confident. Each is shown as its original and as the views that the student sees, drawn again from
their seeds. Without `data.path` there are no pictures. A page that is there already is replaced; any other file is
not. See docs/gallery.md.
"""

from __future__ import annotations

import logitstore
from distill.config import GalleryConfig
from distill.config.command import Program, run_program
from distill.page import charts, curves, document, facts, replayed, row_choice, rows
from distill.page.classes import Classes, classes_of
from distill.page.coverage import coverage
from distill.page.document import Document
from distill.page.replayed import Notice
from distill.page.rows import Source
from distill.page.scan import Scan, scan
from distill.runtime.progress import Progress
from logitstore.tools.describe import describe_store

_CACHE_BYTES = 256 * 2**20


def main(config: GalleryConfig) -> None:
    assert config.store.path and config.out
    out = document.check_target(config.out)
    runs = [curves.read_run(path) for path in config.runs]
    store = logitstore.open(config.store.path, cache_bytes=_CACHE_BYTES)
    row_choice.check_pick(config.show, store.spec)
    seen, classes, done = replayed.open_sight(store, config), classes_of(store.spec), store.done()

    most = min(int(done.sum()), config.scan.blocks or int(done.sum()))
    with Progress("reading", total=most, unit="blocks") as progress:
        found = scan(
            store, classes, blocks=config.scan.blocks, epochs=config.scan.epochs, most=config.show.extremes,
            progress=progress.advance,
        )  # fmt: skip
    chosen = row_choice.choose(config.show, store.spec, done, found)
    source = Source(store=store, done=done & ~found.damaged, sight=seen, classes=classes, config=config.show)
    with Progress("drawing", total=len(chosen), unit="rows") as progress:
        shown = rows.collect(source, chosen, most_bytes=config.max_mb * 1e6, progress=progress.advance)
    proof = replayed.prove(store, seen, rows.places(shown, store.spec))

    notices = [*seen.notices, *([proof] if proof else []), *notices_of(store, found)]
    page = Document(
        title=store.path.rstrip("/").rsplit("/", 1)[-1],
        about=about(store.spec),
        notices=tuple(notices),
        tiles=facts.tiles(described := describe_store(store), found),
        tables=facts.tables(described),
        coverage=coverage(done, read=found.read, damaged=found.damaged),
        histograms=histograms(found, store.spec),
        runs=runs,
        panels=charts.panels(runs),
        exhibits=shown,
        kinds=kinds(found, classes, config),
        exact=config.show.pictures == "exact",
    )
    page, text = document.fit(page, chosen=len(chosen), most_bytes=config.max_mb * 1e6)
    document.write(out, text)
    say(page, f"{out}: {len(page.exhibits)} rows, {len(text.encode()) / 1e6:.1f} MB")


def say(page: Document, first: str) -> None:
    """Prints what was made, and what the page warns of."""
    views = [view for each in page.exhibits for view in each.views]
    print(f"{first}, {sum(view.picture is not None for view in views)} views drawn again", flush=True)
    for notice in page.notices:
        if notice.kind != "good":
            print(f"{notice.kind}: {notice.text}", flush=True)


def about(spec: logitstore.StoreSpec) -> str:
    """The store in a sentence."""
    teacher = spec.teacher.get("name") or "an unnamed teacher"
    return (
        f"What {teacher} said of {spec.num_epochs:,} {'view' if spec.num_epochs == 1 else 'views'} each of "
        f"{spec.num_samples:,} pictures."
    )


def notices_of(store: logitstore.Store, found: Scan) -> list[Notice]:
    """What the scan has to tell."""
    notices = []
    if not found.read.any():
        notices.append(Notice("warning", f"No block of {store.path} is written yet: run `distill.save_logits`."))
    if found.faults:
        more = f" And {len(found.faults) - 1} more like it." if len(found.faults) > 1 else ""
        notices.append(Notice("warning", f"Damage was found. {found.faults[0]}.{more}"))
    if found.empty:
        text = f"Nothing is kept of {found.empty:,} of the {found.views:,} views read, as of pictures that are damaged."
        notices.append(Notice("plain", text))
    return notices


def histograms(found: Scan, spec: logitstore.StoreSpec) -> list[charts.Histogram]:
    """The teacher's certainty over the views that were read."""
    kept = "Mass of the kept classes" if spec.selection == "topk" else "Mass of the kept classes, drawn ones included"
    return [
        charts.histogram(found.spreads["kept_mass"], title=kept),
        charts.histogram(found.spreads["top1"], title="Probability of the first class"),
        charts.histogram(found.spreads["entropy"], title="Entropy", unit="nats"),
    ]


def kinds(found: Scan, classes: Classes, config: GalleryConfig) -> dict[str, tuple[str, str]]:
    """Names of the kinds of rows, and what they mean in this store."""
    where = "among the blocks read"
    hard = ("Hardest", f"Lowest probability of the label, a mean over epochs, {where}.")
    if not found.by_label:
        reason = "labels are unknown" if classes.class_of_label is not None else "labels are not the teacher's classes"
        hard = ("Least certain", f"Highest entropy, a mean over epochs, {where} ({reason}).")
    return {
        "picked": ("Picked", "Named with show.pick."),
        "hardest": hard,
        "disputed": (
            "Most disputed",
            f"The teacher's answers to a row's views are furthest apart {where}: entropy of their mean less the mean "
            "of their entropies.",
        ),
        "confident": ("Most confident", f"Highest probability of the first class, a mean over epochs, {where}."),
        "random": ("Random", f"Drawn from all blocks that are written, seed {config.show.seed}."),
    }


PROGRAM = Program(main, "gallery", schema=GalleryConfig, about=__doc__)

if __name__ == "__main__":
    run_program(PROGRAM)
