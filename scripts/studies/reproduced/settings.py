"""Values that say what is made and measured. Each value is made once, for all questions that need it.

The fingerprint of a value covers everything that decides its result: its fields, and the arguments in `STUDENTS`,
`VIEWS`, `TEACHERS` and `OPTIM`. It also covers the names of classes and fields, so they stay as they were when the
results in the documentation were recorded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
VERSION = 1
"""Raised when the programs change so that old results are no longer valid."""

STUDENTS = {
    "0.16 M": ("student=tiny_vit_micro", "student.image_size=28", "student.dims=[16,32,48,64]",
               "student.heads=[1,1,2,2]"),
    "0.60 M": ("student=tiny_vit_micro", "student.image_size=28"),
    "TinyViT-5M": ("student=tiny_vit_5m",),
}  # fmt: skip
VIEWS = {
    "mild": ("view=fashion",),
    "strong": ("view=crop_flip", "view.interpolation=bilinear"),
    "whole": ("view=none",),
}
"""`mild`: crops of 60 to 100 % of the area, flips, some erasing, as in the teacher's training; `strong`: crops of 8 to
100 %, flips; `whole`: the image as it is."""
TEACHERS = {
    "fashion": ("teacher=tiny_vit", "teacher.weights={root}/scripts/demo/teacher.safetensors"),
    "imagenet": ("teacher=efficientnet_lite0", "teacher.image_size=128"),
    "lite2": ("teacher=efficientnet_lite2", "teacher.image_size=224"),
}
"""The quick start's teacher, of 10 classes; one of ImageNet's 1,000 classes, on the same images, enlarged; and a larger
one, for its time and memory."""
OPTIM = ("optim.base_batch=null", "optim.lr=2e-3", "optim.min_lr=1e-5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Images of Fashion-MNIST, packed."""

    per_class: int
    """The first images of each class, this many."""
    split: str = "train"
    rows_per_shard: int = 100
    shuffled: bool = True
    """Whether packing shuffled them; False: sorted by class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A teacher pass that stores every class."""

    data: Data
    teacher: str
    view: str
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A teacher's outputs on test images, evaluated whole."""

    teacher: str
    judged: Data
    """Test images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A store made from a pass, and the views that it describes to the student."""

    of: Pass
    epochs: int
    topk: int
    selection: str = "topk"
    encoding: str = "log8"
    max_mass: float = 1.0
    draws: int = 0
    tail: str = "uniform"
    """How the store describes the classes outside the top-k: `uniform` or `learned`."""
    unmatched: bool = False
    """Whether the student's views differ from the teacher's, because another seed draws them."""
    view: str | None = None
    """The student's view settings, where they differ from the teacher's; `of` then has one epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One student, trained and scored."""

    student: str
    data: Data
    judged: Data
    steps: int
    batch: int
    seed: int
    warmup: int
    """In steps."""
    store: Store | None = None
    """None: training on labels."""
    online: str | None = None
    """The teacher that runs at every step, on the views of the store, whose logits are then not used."""
    tail: str = "stored"
    """`loss.tail`."""
    view: str = "mild"
    """Of training on labels."""
    window: int = 16
    """Shards that rows are shuffled among."""

    @property
    def teacher(self) -> str:
        return self.store.of.teacher if self.store else "fashion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Steps of a student timed with stored logits and with the teacher online, on the same views; or their memory."""

    student: str
    teacher: str
    """Of `TEACHERS`, or `random_clip`: the published teacher's network without its weights."""
    batch: int
    steps: int
    """Per turn."""
    turns: int
    threads: int
    arms: tuple[str, ...]
    """`stored` and `online` in turn; or one of them alone, for its peak memory."""


def teacher_arguments(teacher: str) -> list[str]:
    """Command-line arguments that choose a teacher of `TEACHERS`."""
    return [argument.format(root=ROOT) for argument in TEACHERS[teacher]]


def fingerprint(value: Data | Pass | Answers | Store | Training | Cost) -> str:
    """12 hexadecimal digits of everything that decides the result of `value`."""
    covered: dict[str, Any] = {"version": VERSION, "kind": type(value).__name__, **asdict(value)}
    covered["words"] = sorted(_arguments_of(covered))
    if isinstance(value, Training):
        covered["optim"] = OPTIM
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()[:12]


def _arguments_of(value: Any) -> set[tuple[str, ...]]:
    """The arguments behind every name of a student, view or teacher in a value."""
    if isinstance(value, dict):
        return set().union(*map(_arguments_of, value.values()))
    return {names[value] for names in (STUDENTS, VIEWS, TEACHERS) if isinstance(value, str) and value in names}
