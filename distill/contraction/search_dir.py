"""The files of a search, each written whole or not at all, and what a restarted search finds in them.

config.yaml                   what was asked for
rounds/00.json                a round: its limits, parents and candidates, written before any of them is trained
candidates/00-00.json         a trained candidate: costs and score; where it is, the candidate is finished
candidates/00-00.safetensors  its weights, kept of those that the search went on from
candidates.jsonl              the candidates of all rounds, a line each; made anew after every round
report.md  pareto.png  summary.json          what came out: see `report`; summary.json last
conf/student/contracted.yaml  contracted.safetensors   the student, and its weights after its brief training
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.errors import DistillError
from distill.models import TinyViTConfig

CANDIDATES, ROUNDS, TABLE = "candidates", "rounds", "candidates.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An architecture to be trained."""

    name: str
    """Round and number."""
    parent: str | None
    """Name of the candidate that it was contracted from; None for the architecture that the search starts from."""
    config: TinyViTConfig
    costs: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"config": self.config.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Candidate:
        known = {name: values[name] for name in ("name", "parent", "costs")}
        return cls(config=TinyViTConfig.from_json(values["config"]), **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A candidate and how it did."""

    candidate: Candidate
    loss: float
    """Mean cross entropy with the stored distributions of the held-out rows, nats; infinite: training diverged."""
    agreement: float
    """Percent."""
    steps: int
    seconds: float

    @property
    def name(self) -> str:
        return self.candidate.name

    def to_json(self) -> dict[str, Any]:
        """All of it, flat; JSON has no infinity, so the loss of a diverged candidate is null."""
        numbers = {key: getattr(self, key) for key in ("loss", "agreement", "steps", "seconds")}
        return self.candidate.to_json() | numbers | ({} if math.isfinite(self.loss) else {"loss": None})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Trained:
        numbers = {key: values[key] for key in ("agreement", "steps", "seconds")}
        loss = math.inf if values["loss"] is None else values["loss"]
        return cls(candidate=Candidate.from_json(values), loss=loss, **numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What is tried together."""

    number: int
    limits: Mapping[str, float]
    """That each candidate is within; empty in round 0, which trains the architecture that the search starts from."""
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        candidates = [candidate.to_json() for candidate in self.candidates]
        return {"number": self.number, "limits": dict(self.limits), "candidates": candidates}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Round:
        candidates = tuple(Candidate.from_json(each) for each in values["candidates"])
        return cls(number=values["number"], limits=values["limits"], candidates=candidates)


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a search."""

    path: Path

    def weights(self, name: str) -> Path:
        return self.path / CANDIDATES / f"{name}.safetensors"

    def inherited(self, name: str) -> Path:
        """Weights that a candidate begins with, there while it is trained."""
        return self.path / CANDIDATES / f"{name}.inherited.safetensors"

    def result(self, name: str) -> Trained | None:
        """What came of a candidate; None while it is not finished."""
        path = self.path / CANDIDATES / f"{name}.json"
        return Trained.from_json(_read(path)) if path.exists() else None

    def finish(self, trained: Trained) -> None:
        """Writes what came of a candidate, whose weights are there already."""
        _write(self.path / CANDIDATES / f"{trained.name}.json", trained.to_json())

    def round(self, number: int) -> Round | None:
        path = self.path / ROUNDS / f"{number:02d}.json"
        return Round.from_json(_read(path)) if path.exists() else None

    def begin(self, round_: Round) -> None:
        _write(self.path / ROUNDS / f"{round_.number:02d}.json", round_.to_json())

    def write_table(self, results: list[Trained], kept: set[str]) -> None:
        """The candidates of all rounds, a line each, with whether the search went on from them."""
        lines = [json.dumps(each.to_json() | {"kept": each.name in kept}) for each in results]
        write_text(self.path / TABLE, "".join(f"{line}\n" for line in lines))

    def drop_weights(self, names: set[str]) -> None:
        """Removes the weights of candidates that the search does not go on from."""
        for name in names:
            self.weights(name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file under another name and renames it. **Raises:** `DistillError` where that fails."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        part.rename(path)
    except OSError as error:
        raise DistillError(f"cannot write {path}: {error.strerror}") from None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise DistillError(f"cannot read {path} ({error}): remove it, and the search makes it anew") from None
    return values
