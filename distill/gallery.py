"""A store as one HTML page that opens from disk: its metadata, the teacher's predictions, and the images it saw.

    python -m distill.gallery store.path=T.zarr data.path=DATA out=gallery.html
    python -m distill.gallery store.path=T.zarr data.path=DATA out=gallery.html runs=[runs/a,runs/b]
    python -m distill.gallery store.path=T.zarr data.path=DATA out=gallery.html show.pick=[12,340] show.epochs=4
    python -m distill.gallery store.path=s3://bucket/T.zarr out=gallery.html

Some rows are drawn at random; others stand out in the `scan.blocks` blocks that are read: the hardest, those with most
disagreement between epochs, the most confident. Each is shown as its original image and as the views that the student
sees, replayed from their seeds. Without `data.path` there are no images. An older gallery page at `out` is replaced,
any other file is not. See docs/gallery.md.
"""

from __future__ import annotations

import logitstore
from distill.config import GalleryConfig
from distill.config.command import Program, run_program
from distill.page import charts, curves, document, facts, replayed, row_choice, rows
from distill.page.classes import classes_of
from distill.page.coverage import coverage
from distill.page.document import Document
from distill.page.replayed import Notice
from distill.page.scan import Scan, scan
from distill.runtime.progress import Progress
from logitstore.tools.describe import describe_store
from logitstore.tools.names import ClassNames

_CACHE_BYTES = 256 * 2**20


def main(config: GalleryConfig) -> None:
    assert config.store.path and config.out
    out = document.check_target(config.out)
    runs = [curves.read_run(path) for path in config.runs]
    store = logitstore.open(config.store.path, cache_bytes=_CACHE_BYTES)
    row_choice.check_picked(config.show, store.spec)
    replay, classes, done = replayed.replay_availability(store, config), classes_of(store.spec), store.done()

    num_blocks = min(int(done.sum()), config.scan.blocks or int(done.sum()))
    with Progress("reading", total=num_blocks, unit="blocks") as progress:
        scanned = scan(
            store, classes, blocks=config.scan.blocks, epochs=config.scan.epochs, ranking_size=config.show.extremes,
            progress=progress.advance,
        )  # fmt: skip
    chosen = row_choice.choose_rows(config.show, store.spec, done, scanned)
    source = rows.ExampleSource(
        store=store, done=done & ~scanned.damaged, replay=replay, classes=classes, config=config.show
    )
    max_bytes = config.max_mb * 1e6
    with Progress("drawing", total=len(chosen), unit="rows") as progress:
        examples = rows.make_examples(source, chosen, max_bytes=max_bytes, progress=progress.advance)
    verified = replayed.verify_views(store, replay, rows.blocks_of(examples, store.spec))

    description = describe_store(store)
    page = Document(
        title=store.path.rstrip("/").rsplit("/", 1)[-1],
        about=about(store.spec),
        notices=(*replay.notices, *([verified] if verified else []), *scan_notices(store, scanned)),
        tiles=facts.store_tiles(description, scanned),
        tables=facts.store_tables(description),
        coverage=coverage(done, read=scanned.read, damaged=scanned.damaged),
        histograms=histograms(scanned, store.spec),
        runs=runs,
        panels=charts.draw_panels(runs),
        examples=examples,
        kinds=kinds(scanned, classes, config),
        exact=config.show.pictures == "exact",
    )
    page, html = document.fit(page, chosen=len(chosen), max_bytes=max_bytes)
    document.write(out, html)
    print_result(page, f"{out}: {len(page.examples)} rows, {len(html.encode()) / 1e6:.1f} MB")


def print_result(page: Document, first: str) -> None:
    """Prints what was written, and the notices of the page that are not good news."""
    views = [view for example in page.examples for view in example.views]
    print(f"{first}, {sum(view.image is not None for view in views)} replayed views", flush=True)
    for notice in page.notices:
        if notice.kind != "good":
            print(f"{notice.kind}: {notice.text}", flush=True)


def about(spec: logitstore.StoreSpec) -> str:
    """The store in a sentence."""
    teacher = spec.teacher.get("name") or "an unnamed teacher"
    views = "1 view" if spec.num_epochs == 1 else f"{spec.num_epochs:,} views"
    return f"Predictions of {teacher} for {spec.num_samples:,} images, {views} of each."


def scan_notices(store: logitstore.Store, scanned: Scan) -> list[Notice]:
    """What the scan found missing or damaged."""
    notices = []
    if not scanned.read.any():
        notices.append(Notice("warning", f"No block of {store.path} is written yet: run `distill.save_logits`."))
    if scanned.faults:
        more = f" {len(scanned.faults) - 1} more faults were found." if len(scanned.faults) > 1 else ""
        notices.append(Notice("warning", f"Damage was found. {scanned.faults[0]}.{more}"))
    if scanned.empty:
        text = (
            f"{scanned.empty:,} of the {scanned.views:,} views read have no target: the teacher pass could not read "
            "their images."
        )
        notices.append(Notice("plain", text))
    return notices


def histograms(scanned: Scan, spec: logitstore.StoreSpec) -> list[charts.Histogram]:
    """The teacher's confidence over the views that were read."""
    mass = "Mass of the top-k" if spec.selection == "topk" else "Mass of the top-k, drawn classes included"
    return [
        charts.draw_histogram(scanned.histograms["kept_mass"], title=mass),
        charts.draw_histogram(scanned.histograms["top1"], title="Top-1 probability"),
        charts.draw_histogram(scanned.histograms["entropy"], title="Entropy", unit="nats"),
    ]


def kinds(scanned: Scan, classes: ClassNames, config: GalleryConfig) -> dict[str, tuple[str, str]]:
    """Kind of row -> its name, and what it means for this store."""
    where = "among the blocks read"
    hardest = ("Hardest", f"Lowest probability of the label, a mean over epochs, {where}.")
    if not scanned.by_label:
        reason = "labels are unknown" if classes.class_of_label is not None else "labels are not the teacher's classes"
        hardest = ("Least certain", f"Highest entropy, a mean over epochs, {where} ({reason}).")
    return {
        "picked": ("Picked", "Chosen with show.pick."),
        "hardest": hardest,
        "disagreement": (
            "Most disagreement",
            f"Predictions for a row's views that differ most, {where}: entropy of their mean minus the mean of their "
            "entropies (Jensen-Shannon divergence).",
        ),
        "confident": ("Most confident", f"Highest top-1 probability, a mean over epochs, {where}."),
        "random": ("Random", f"Drawn from all blocks that are written, seed {config.show.seed}."),
    }


PROGRAM = Program(main, "gallery", schema=GalleryConfig, about=__doc__)

if __name__ == "__main__":
    run_program(PROGRAM)
