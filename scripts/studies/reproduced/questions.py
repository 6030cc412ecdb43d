"""The questions, and the trainings that answer them: arms, each with a label and, for every seed, a training.

Trainings are values: equal trainings in the arms of several questions run once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from scripts.studies.reproduced.settings import Cost, Data, Pass, Store, Training

Arms = list[tuple[str, Training]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The size of everything. The default is what is reported; `TINY` only shows that everything runs."""

    many: int = 600
    """Training images per class."""
    few: int = 60
    judged: int = 200
    """Test images per class."""
    rows_per_shard: int = 100
    steps: int = 744
    """8 epochs of the 6,000 images."""
    batch: int = 64
    warmup: int = 93
    epochs: int = 8
    """Stored epochs, unless a question varies them."""
    rounds: int = 16
    """Epochs of the long run over the many images; with as many stored epochs no view comes twice."""
    imagenet_epochs: int = 4
    reuse: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of stored epochs that are compared."""
    turns: int = 9
    """Of timings; 0: only one, of one pair."""

    @property
    def long_steps(self) -> int:
        return self.rounds * (self.many * 10 // self.batch)

    @property
    def few_epochs(self) -> int:
        """Epochs of the few images in as many steps; with as many stored epochs no view comes twice."""
        return -(-self.steps // (self.few * 10 // self.batch))

    @property
    def num_shards(self) -> int:
        return -(-self.many * 10 // self.rows_per_shard)


TINY = Scale(
    many=13, few=7, judged=4, rows_per_shard=10, steps=3, batch=32, warmup=1, epochs=2, rounds=2, imagenet_epochs=1,
    reuse=(1,), turns=0,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    key: str
    title: str
    arms: Callable[[Scale, int], Arms]
    """(scale, seed) -> arms."""
    against: str
    """How the labels of the reference arms end: each arm is compared with the last such arm before it, or with the
    first one."""
    metric: str = "top1"
    """What the plot shows."""
    across: str = "arms"
    """The plot's axis: `arms` by name, `number` in each label, or `bytes`."""


def data_of(scale: Scale, *, few: bool = False, shuffled: bool = True) -> Data:
    per_class = scale.few if few else scale.many
    return Data(per_class=per_class, rows_per_shard=scale.rows_per_shard, shuffled=shuffled)


def store_of(scale: Scale, *, few: bool = False, topk: int = 3) -> Store:
    """The store that most questions start from: mild views, the top 3 of 10 classes in log8."""
    epochs = scale.few_epochs if few else scale.rounds
    of = Pass(data=data_of(scale, few=few), teacher="fashion", view="mild", epochs=epochs)
    return Store(of=of, epochs=epochs if few else scale.epochs, topk=topk)


def training(scale: Scale, seed: int, store: Store | None = None, *, student: str = "0.60 M") -> Training:
    """A training from a store, or on the labels of all images."""
    return Training(
        student=student, data=store.of.data if store else data_of(scale), steps=scale.steps, batch=scale.batch,
        judged=Data(per_class=scale.judged, split="val"), warmup=scale.warmup, seed=seed, store=store,
    )  # fmt: skip


def labels_or_teacher(scale: Scale, seed: int) -> Arms:
    """(a) Two students, two amounts of data."""
    arms: Arms = []
    for student in ("0.16 M", "0.60 M"):
        for few in (True, False):
            setting = f"{student}, {10 * data_of(scale, few=few).per_class:,} images"
            distilled = training(scale, seed, store_of(scale, few=few), student=student)
            arms.append((f"{setting}, labels", replace(distilled, store=None)))
            arms.append((f"{setting}, distilled", distilled))
    return arms


def stored_or_online(scale: Scale, seed: int) -> Arms:
    """(b) The same views in the same order, with stored logits or with the teacher online."""
    exact = replace(store_of(scale), topk=10, encoding="float16")
    return [
        ("teacher online, all classes", replace(training(scale, seed, exact), online="fashion")),
        ("stored, all 10 classes in float16", training(scale, seed, exact)),
        ("stored, 3 classes in log8", training(scale, seed, store_of(scale))),
    ]


def topk_of_ten(scale: Scale, seed: int) -> Arms:
    """(c) The top k of 10 classes."""
    return [(f"k = {k}", training(scale, seed, store_of(scale, topk=k))) for k in (1, 2, 3, 5, 10)]


def topk_of_thousand(scale: Scale, seed: int) -> Arms:
    """(c) The top k of 1,000 classes."""
    sizes = (1, 3, 10, 30, 100, 1000)
    return [(f"k = {k}", training(scale, seed, replace(thousand(scale), topk=k))) for k in sizes]


def thousand(scale: Scale) -> Store:
    """The top 10 of ImageNet's classes for the same images."""
    of = Pass(data=data_of(scale), teacher="imagenet", view="mild", epochs=scale.imagenet_epochs)
    return Store(of=of, epochs=scale.imagenet_epochs, topk=10)


def encodings(scale: Scale, seed: int) -> Arms:
    """(d) Encodings, selections and tails of 3 of 10 classes, and others of about as many bytes."""
    base = store_of(scale)
    return variants(scale, seed, base, draws=3, fewer=1, more=4, mass=0.9, mass_topk=10, more_draws=18)


def encodings_of_thousand(scale: Scale, seed: int) -> Arms:
    """(d) Encodings, selections and tails of 10 of 1,000 classes, and others of about as many bytes."""
    return variants(scale, seed, thousand(scale), draws=10, fewer=6, mass=0.75, mass_topk=40, more_draws=35)


def variants(
    scale: Scale,
    seed: int,
    base: Store,
    *,
    draws: int,
    fewer: int,
    mass: float,
    mass_topk: int,
    more_draws: int,
    more: int | None = None,
) -> Arms:
    """Every encoding, selection and tail at the base's k, then those that take about as many bytes.

    **Arguments:** `more`: a larger k of `hybrid`, where it takes fewer bytes at the base's k.
    """
    classes = 10 if base.of.teacher == "fashion" else 1000
    sampled = replace(base, selection="sample", encoding="counts")
    stores = {
        f"log8, uniform, k = {base.topk}": base,
        f"float16, uniform, k = {base.topk}": replace(base, encoding="float16"),
        f"log8, learned, k = {base.topk}": replace(base, tail="learned"),
        f"hybrid, k = {base.topk}": replace(base, selection="hybrid"),
        f"sample, {draws} draws": replace(sampled, draws=draws, topk=min(draws, classes)),
        f"float16, uniform, k = {fewer}": replace(base, encoding="float16", topk=fewer),
        f"max_mass {mass:g}, uniform, k <= {mass_topk}": replace(base, max_mass=mass, topk=mass_topk),
        f"sample, {more_draws} draws": replace(sampled, draws=more_draws, topk=min(more_draws, classes)),
    }
    if more:
        stores[f"hybrid, k = {more}"] = replace(base, selection="hybrid", topk=more)
    arms = [(label, training(scale, seed, store)) for label, store in stores.items()]
    uniform = training(scale, seed, base)
    tails = [(f"log8, {tail}, k = {base.topk}", replace(uniform, tail=tail)) for tail in ("bucket", "dropped")]
    return [*arms[:3], *tails, *arms[3:]]


def replayed_or_not(scale: Scale, seed: int) -> Arms:
    """(e) The teacher's logits of the student's view, of another view of the image, and of the whole image."""
    arms: Arms = []
    for view in ("mild", "strong"):
        epochs = scale.rounds if view == "mild" else scale.epochs
        base = store_of(scale)
        base = replace(base, of=replace(base.of, view=view, epochs=epochs))
        whole = replace(base, of=replace(base.of, view="whole", epochs=1), view=view)
        arms += [
            (f"{view} crops, replayed", training(scale, seed, base)),
            (f"{view} crops, answers of other crops", training(scale, seed, replace(base, unmatched=True))),
            (f"{view} crops, answers of the whole image", training(scale, seed, whole)),
            (f"{view} crops, labels", replace(training(scale, seed), view=view)),
        ]
    return arms


def reuse_of_many(scale: Scale, seed: int) -> Arms:
    """(f) A long run over many images."""
    stored = sorted({*scale.reuse, scale.rounds})
    base = store_of(scale)
    return [
        (f"{count} stored", replace(training(scale, seed, replace(base, epochs=count)), steps=scale.long_steps))
        for count in stored
    ]


def reuse_of_few(scale: Scale, seed: int) -> Arms:
    """(f) A run over few images, many times each."""
    base = store_of(scale, few=True)
    stored = sorted({*scale.reuse, scale.few_epochs})
    return [(f"{count} stored", training(scale, seed, replace(base, epochs=count))) for count in stored]


def windows(scale: Scale, seed: int) -> Arms:
    """(g) Shuffling in windows of shards and over all of them; also on data that packing did not shuffle."""
    arms: Arms = []
    for shuffled in (True, False):
        base = store_of(scale)
        if not shuffled:
            base = replace(base, of=replace(base.of, data=data_of(scale, shuffled=False), epochs=scale.epochs))
        for window in (scale.num_shards, 16, 1):
            shards = "all shards" if window == scale.num_shards else f"windows of {window} shards"
            kind = "packed as always" if shuffled else "packed class after class"
            arms.append((f"{kind}, {shards}", replace(training(scale, seed, base), window=window)))
    return arms


def costs(scale: Scale) -> list[Cost]:
    """(b) Time and memory of a step, for teachers smaller and larger than the student. The numbers of steps make all
    turns take about equally long."""
    pairs = (("0.60 M", "fashion", 64, 20), ("TinyViT-5M", "lite2", 8, 2), ("TinyViT-5M", "random_clip", 8, 1))
    threads = os.cpu_count() or 1
    all_costs = []
    for student, teacher, batch, steps in pairs if scale.turns else (("0.60 M", "fashion", 8, 1),):
        for arms in (("stored", "online"), ("stored",), ("online",)):
            turns = scale.turns or 1 if len(arms) == 2 else 1
            all_costs.append(
                Cost(
                    student=student, teacher=teacher, batch=batch, steps=steps, turns=turns, threads=threads, arms=arms
                )
            )
    return all_costs


QUESTIONS = (
    Question(key="a", title="Labels against distillation, in equal steps", arms=labels_or_teacher, against=", labels"),
    Question(
        key="b", title="Stored logits against the teacher online, on the same views", arms=stored_or_online,
        against="all classes",
    ),
    Question(key="c10", title="Classes stored, of 10", arms=topk_of_ten, against="k = 10", across="number"),
    Question(
        key="c1000", title="Classes stored, of 1,000", arms=topk_of_thousand, against="k = 1000", metric="kl",
        across="number",
    ),
    Question(
        key="d10", title="Encodings, selections and tails, around 3 of 10 classes", arms=encodings,
        against="log8, uniform, k = 3", metric="kl", across="bytes",
    ),
    Question(
        key="d1000", title="Encodings, selections and tails, around 10 of 1,000 classes", arms=encodings_of_thousand,
        against="log8, uniform, k = 10", metric="kl", across="bytes",
    ),
    Question(key="e", title="Replayed views against unmatched views", arms=replayed_or_not, against=", replayed"),
    Question(
        key="f6000", title="Stored epochs reused, many images in a long run", arms=reuse_of_many,
        against="16 stored", across="number",
    ),
    Question(
        key="f600", title="Stored epochs reused, few images in many rounds", arms=reuse_of_few,
        against="83 stored", across="number",
    ),
    Question(key="g", title="Shuffled in windows against shuffled as a whole", arms=windows, against="all shards"),
)  # fmt: skip
