"""What a store holds: sizes, selection, encoding and provenance.

The spec is the main part of the store's attributes. Everything else (array shapes, codecs, file names) follows from it
through `layout`. The four provenance dicts are JSON that this package stores and compares but does not interpret: view
policies and teachers are defined by the programs that write stores.
"""

import json
from dataclasses import dataclass, field, fields
from typing import Any

from logitstore.errors import SpecError, UnsupportedVersion

SELECTIONS = ("topk", "sample", "hybrid")
ENCODINGS = ("log8", "float16", "counts")
TOPK_ENCODINGS = ("log8", "float16")
"""The encodings that hold log-probabilities."""
INNER_ROWS = 4096
"""Most rows of one inner chunk, the smallest piece that can be read and decoded alone."""

_MAX_CLASSES = 2**24
_MAX_DRAWS = 255
_MAX_UINT64 = 2**64 - 1
_PROVENANCE = ("view", "teacher", "data", "software")
_ABSENT = object()

NEVER_COMPARED = ("software",)
"""Fields in which stores of one spec may differ."""
MAX_SAMPLES = 2**34
MAX_EPOCHS = 2**12
MAX_BLOCKS = 2**24
"""Of all epochs together."""
MAX_BLOCK_ENTRIES = 2**25
"""Rows of a block times entries of a view: what is in memory when a block is read."""
MAX_TAIL_ENTRIES = 2**26
"""Groups of the tail model times classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """Sizes, encoding and provenance of a store; immutable for the store's life.

    Raises `SpecError` on construction when the values contradict each other.
    """

    num_samples: int
    """N, rows of the catalog."""
    num_epochs: int
    """E, stored epochs."""
    num_classes: int
    """C, classes of the teacher."""
    topk: int
    """k, entries per view; 1 <= k <= C."""
    selection: str = "topk"
    """How the classes were selected: `topk`, the k most probable; `sample`, the classes of some random draws; `hybrid`,
    the most probable exactly, and random draws that stand for the mass of the rest."""
    max_mass: float = 1.0
    """Of stores made with version 0.1, selection topk: the entries after those that reach this mass together are empty.
    1, the value to use: none are. Below 1 costs bytes at equal fidelity (docs/fidelity.md), so that nothing here or in
    `distill` sets it any more; stores that have it work as all others."""
    draws: int = 0
    """sample: random draws per view, 1 to 255; 0 for other selections."""
    encoding: str = "log8"
    """`log8`: 8-bit codes of log-probabilities; `float16`: the log-probabilities themselves; `counts`, for `sample`
    only: how often each class was drawn."""
    rows_per_block: int = 4096
    """Rows of one block, the unit of writing, committing and loss. At most 4096, or a multiple of 4096."""
    store_seed: int = 0
    """Seed from which the views' seeds were derived."""
    proof_rows: int = 2
    """How many rows at the start of a block its proof covers."""
    log_step: float = 1 / 8
    """log8: nats of one code step of a log-probability."""
    tail_step: float = 1 / 8
    """log8: nats of one code step of the tail's log-odds."""
    tail_groups: int = 0
    """G, distributions of the tail model; 0: there is none."""
    view: dict[str, Any] = field(default_factory=dict)
    """View policy, opaque JSON."""
    teacher: dict[str, Any] = field(default_factory=dict)
    """Teacher's provenance, opaque JSON; `class_names` is used where present."""
    data: dict[str, Any] = field(default_factory=dict)
    """Data's provenance, opaque JSON; `fingerprint` and `class_names` are used where present."""
    software: dict[str, Any] = field(default_factory=dict)
    """Versions that wrote the store, opaque JSON; never compared."""

    def __post_init__(self) -> None:
        highest = {"num_samples": MAX_SAMPLES, "num_epochs": MAX_EPOCHS, "rows_per_block": MAX_BLOCK_ENTRIES}
        for name in ("num_samples", "num_epochs", "num_classes", "topk", "rows_per_block"):
            _require_int(name, getattr(self, name), low=1, high=highest.get(name, _MAX_CLASSES))
        _require_int("store_seed", self.store_seed, low=0, high=_MAX_UINT64)
        _require_int("proof_rows", self.proof_rows, low=0, high=self.rows_per_block)
        if self.topk > self.num_classes:
            raise SpecError(f"topk is {self.topk}, more than num_classes, {self.num_classes}: choose a smaller topk")
        if self.rows_per_block > INNER_ROWS and self.rows_per_block % INNER_ROWS:
            raise SpecError(
                f"rows_per_block is {self.rows_per_block}: choose a multiple of {INNER_ROWS}, or less than it"
            )
        self._require_size()
        _require_choice("selection", self.selection, SELECTIONS)
        _require_choice("encoding", self.encoding, ENCODINGS)
        self._require_selection()
        _require_int("tail_groups", self.tail_groups, low=0, high=min(self.num_classes, 65_535))
        if self.tail_groups * self.num_classes > MAX_TAIL_ENTRIES:
            raise SpecError(
                f"tail_groups is {self.tail_groups}: choose at most {MAX_TAIL_ENTRIES // self.num_classes} for "
                f"{self.num_classes} classes"
            )
        for name in ("log_step", "tail_step"):
            value = getattr(self, name)
            if not isinstance(value, float) or not 2**-10 <= value <= 1:
                raise SpecError(f"{name} is {value!r}: choose a float from 2**-10 to 1")
        for name in _PROVENANCE:
            object.__setattr__(self, name, _plain_json(name, getattr(self, name)))

    def _require_size(self) -> None:
        """What a reader allocates follows from the spec, so the spec has bounds."""
        if self.rows_per_block * self.topk > MAX_BLOCK_ENTRIES:
            raise SpecError(
                f"a block of {self.rows_per_block} rows has {self.topk} entries for each, more than "
                f"{MAX_BLOCK_ENTRIES:,} in all: choose rows_per_block of at most {MAX_BLOCK_ENTRIES // self.topk}"
            )
        if self.num_epochs * self.num_blocks > MAX_BLOCKS:
            raise SpecError(
                f"{self.num_epochs} epochs of {self.num_samples} samples have more than {MAX_BLOCKS:,} blocks of "
                f"{self.rows_per_block} rows: choose a larger rows_per_block"
            )

    def _require_selection(self) -> None:
        if (self.selection == "sample") != (self.encoding == "counts"):
            raise SpecError(
                f"selection is {self.selection!r} and encoding {self.encoding!r}: `sample` and `counts` go together"
            )
        sampled = self.selection == "sample"
        _require_int("draws", self.draws, low=1 if sampled else 0, high=_MAX_DRAWS if sampled else 0)
        mass = self.max_mass
        if not isinstance(mass, float) or not 0 < mass <= 1 or (mass < 1 and self.selection != "topk"):
            raise SpecError(f"max_mass is {mass!r}: choose a float above 0, at most 1, and below 1 for `topk` only")

    @property
    def num_blocks(self) -> int:
        """B, blocks of one epoch; the last may be short."""
        return -(-self.num_samples // self.rows_per_block)

    @property
    def num_labels(self) -> int:
        """Labels are below this: the number of the data's class names; where those are unknown, the largest number of
        classes that a store may have."""
        names = self.data.get("class_names")
        return len(names) if isinstance(names, list) and names else _MAX_CLASSES

    @property
    def inner_rows(self) -> int:
        """Rows of one inner chunk of a block."""
        return min(INNER_ROWS, self.rows_per_block)

    def block_rows(self, block: int) -> range:
        """Rows of one block, `range(first, last + 1)`. Raises `SpecError` outside 0 <= block < num_blocks."""
        if not 0 <= block < self.num_blocks:
            raise SpecError(f"block {block} is outside 0..{self.num_blocks - 1}")
        first = block * self.rows_per_block
        return range(first, min(first + self.rows_per_block, self.num_samples))

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values, in the order of definition."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "StoreSpec":
        """Inverse of `to_json`. Every field must be there.

        Raises `UnsupportedVersion` for unknown keys, `SpecError` for missing keys or bad values.
        """
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(document) - names)
        if unknown:
            raise UnsupportedVersion(
                f"the store's spec has keys that this version does not know: {', '.join(unknown)}; "
                "install the version of logitstore that wrote it, or a newer one"
            )
        missing = sorted(names - set(document))
        if missing:
            raise SpecError(f"the store's spec lacks: {', '.join(missing)}")
        return cls(**document)


def differences(store: StoreSpec, request: StoreSpec) -> list[str]:
    """What differs between a store's spec and a requested one, one line per value.

    `software` is left out: other versions may read and continue a store, and the proofs show whether they render the
    same views.

    **Returns** lines such as `view.scale: store has [0.08, 1.0], request has [0.2, 1.0]`; empty when equal.
    """
    lines: list[str] = []
    mine, theirs = store.to_json(), request.to_json()
    for name in mine:
        if name not in NEVER_COMPARED:
            _compare(name, mine[name], theirs[name], lines)
    return lines


def _compare(name: str, mine: Any, theirs: Any, lines: list[str]) -> None:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in [*mine, *(k for k in theirs if k not in mine)]:
            _compare(f"{name}.{key}", mine.get(key, _ABSENT), theirs.get(key, _ABSENT), lines)
    elif mine != theirs or isinstance(mine, bool) != isinstance(theirs, bool):
        lines.append(f"{name}: store has {_shown(mine)}, request has {_shown(theirs)}")


def _shown(value: Any) -> str:
    """A value for a message: JSON, truncated, because a list of a thousand class names would hide the rest."""
    text = "nothing" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def _require_int(name: str, value: object, *, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"{name} is {value!r}: choose an integer")
    if value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"{low} to {high}"
        raise SpecError(f"{name} is {value}: choose {limits}")


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SpecError(f"{name} is {value!r}: choose one of {', '.join(choices)}")


def _plain_json(name: str, value: object) -> dict[str, Any]:
    """A copy of `value` as it comes back from disk: tuples become lists, types that JSON lacks are refused."""
    if not isinstance(value, dict):
        raise SpecError(f"{name} is a {type(value).__name__}: give a dict of JSON values")
    try:
        plain = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"{name} cannot be stored as JSON: {error}") from None
    assert isinstance(plain, dict)
    return plain
