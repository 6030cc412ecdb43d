"""Values that say what is made and measured. Equal values are made once, whoever asks; a changed value is another one.

Whatever decides a result is in the fingerprint of its value, the words of `STUDENTS`, `VIEWS` and `OPTIM` too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
VERSION = 1
"""Raised when the programs change so that old results no longer hold."""

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
"""`mild`: crops of 60 to 100 % of the area, flips, some erasing, as the teacher was trained; `strong`: crops of 8 to
100 %, flips; `whole`: the picture as it is."""
TEACHERS = {
    "fashion": ("teacher=tiny_vit", "teacher.weights={root}/scripts/demo/teacher.safetensors"),
    "imagenet": ("teacher=efficientnet_lite0", "teacher.image_size=128"),
    "lite2": ("teacher=efficientnet_lite2", "teacher.image_size=224"),
}
"""The quick start's teacher, 10 classes; one of ImageNet's thousand classes, asked about the same pictures, enlarged;
and a larger one, for its time and memory."""
OPTIM = ("optim.base_batch=null", "optim.lr=2e-3", "optim.min_lr=1e-5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Pictures of Fashion-MNIST, packed."""

    per_class: int
    """The first so many of each class."""
    split: str = "train"
    rows_per_shard: int = 100
    shuffled: bool = True
    """Whether packing shuffled them; False: class after class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A teacher pass that keeps every class."""

    data: Data
    teacher: str
    view: str
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A teacher's answers on test pictures, shown whole."""

    teacher: str
    judged: Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """What of a pass is kept, and what the student is told that it was about."""

    of: Pass
    epochs: int
    topk: int
    selection: str = "topk"
    encoding: str = "log8"
    max_mass: float = 1.0
    draws: int = 0
    tail: str = "uniform"
    """What the store says of the classes that it does not keep: `uniform` or `learned`."""
    unmatched: bool = False
    """Whether the student's views are others than the teacher's, drawn by another seed."""
    view: str | None = None
    """Views of the student, where they are drawn otherwise than the teacher's; `of` then has one epoch."""


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
    """None: labels teach."""
    online: str | None = None
    """Teacher that runs at every step, on the views of the store, whose logits are then not used."""
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
    """Of a turn."""
    turns: int
    threads: int
    arms: tuple[str, ...]
    """`stored` and `online`, taking turns; or one of them alone, whose peak memory is measured."""


def teacher_words(teacher: str) -> list[str]:
    """Words of a command line that choose a teacher of `TEACHERS`."""
    return [word.format(root=ROOT) for word in TEACHERS[teacher]]


def fingerprint(value: Data | Pass | Answers | Store | Training | Cost) -> str:
    """12 hexadecimal digits of everything that decides what `value` comes to."""
    told: dict[str, Any] = {"version": VERSION, "kind": type(value).__name__, **asdict(value)}
    told["words"] = sorted(_words_in(told))
    if isinstance(value, Training):
        told["optim"] = OPTIM
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _words_in(told: Any) -> set[tuple[str, ...]]:
    """The words behind every name of a student, view or teacher in a value."""
    if isinstance(told, dict):
        return set().union(*map(_words_in, told.values()))
    known = (STUDENTS, VIEWS, TEACHERS)
    return {names[told] for names in known if isinstance(told, str) and told in names}
