"""The files of a search, each written whole or not at all; from them a restarted search goes on.

config.yaml                   the settings
rounds/00.json                a round: its limits, parents and candidates, written before any of them is trained
candidates/00-00.json         a trained candidate: costs and scores; where this file is, the candidate is finished
candidates/00-00.safetensors  its weights, only of candidates that were selected in their round
candidates.jsonl              the candidates of all rounds, one per line; rewritten after every round
report.md  pareto.png  summary.json          the result: see `report`; summary.json is written last
conf/student/contracted.yaml  contracted.safetensors   the student, and its weights after its brief training
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from distill.errors import DistillError
from distill.files import read_json_object, write_file
from distill.models import ModelError, TinyViTConfig
from logitstore.untrusted import printable

T = TypeVar("T")

CANDIDATES, ROUNDS, TABLE = "candidates", "rounds", "candidates.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An architecture to be trained."""

    name: str
    """ROUND-NUMBER."""
    parent: str | None
    """Name of the candidate that it was contracted from; None for the initial architecture."""
    config: TinyViTConfig
    costs: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"config": self.config.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Candidate:
        config = TinyViTConfig.from_json(values["config"])
        return cls(name=values["name"], parent=values["parent"], config=config, costs=values["costs"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedCandidate:
    """A candidate with its scores."""

    candidate: Candidate
    loss: float
    """Mean cross entropy with the stored distributions of the held-out rows, nats; infinite: training diverged."""
    agreement: float
    """Percentage of held-out views whose most probable class is the store's."""
    steps: int
    """Optimiser steps of its training."""
    seconds: float
    """Of training and scoring."""

    @property
    def name(self) -> str:
        return self.candidate.name

    def to_json(self) -> dict[str, Any]:
        """All fields in one flat object; JSON has no infinity, so the loss of a diverged candidate is null."""
        loss = self.loss if math.isfinite(self.loss) else None
        scores = {"loss": loss, "agreement": self.agreement, "steps": self.steps, "seconds": self.seconds}
        return self.candidate.to_json() | scores

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainedCandidate:
        return cls(
            candidate=Candidate.from_json(values),
            loss=math.inf if values["loss"] is None else values["loss"],
            agreement=values["agreement"],
            steps=values["steps"],
            seconds=values["seconds"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The candidates of a round."""

    number: int
    limits: Mapping[str, float]
    """Each candidate is within them; empty in round 0, which trains the initial architecture."""
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        candidates = [candidate.to_json() for candidate in self.candidates]
        return {"number": self.number, "limits": dict(self.limits), "candidates": candidates}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Round:
        candidates = tuple(Candidate.from_json(candidate) for candidate in values["candidates"])
        return cls(number=values["number"], limits=values["limits"], candidates=candidates)


@dataclass(frozen=True, slots=True)
class SearchDir:
    """The directory of a search."""

    path: Path

    def weights(self, name: str) -> Path:
        """File of a candidate's weights."""
        return self.path / CANDIDATES / f"{name}.safetensors"

    def inherited_weights(self, name: str) -> Path:
        """File of a candidate's initial weights, present while it is trained."""
        return self.path / CANDIDATES / f"{name}.inherited.safetensors"

    def read_result(self, name: str) -> TrainedCandidate | None:
        """The result of a candidate; None while it is not finished."""
        path = self.path / CANDIDATES / f"{name}.json"
        return _parsed(path, TrainedCandidate.from_json) if path.exists() else None

    def write_result(self, trained: TrainedCandidate) -> None:
        """Writes the result of a candidate, after its weights."""
        _write(self.path / CANDIDATES / f"{trained.name}.json", trained.to_json())

    def read_round(self, number: int) -> Round | None:
        """A round; None while its candidates are not decided."""
        path = self.path / ROUNDS / f"{number:02d}.json"
        return _parsed(path, Round.from_json) if path.exists() else None

    def write_round(self, round_: Round) -> None:
        _write(self.path / ROUNDS / f"{round_.number:02d}.json", round_.to_json())

    def write_table(self, results: list[TrainedCandidate], selected: set[str]) -> None:
        """Writes the candidates of all rounds, one per line, with whether they were selected."""
        lines = [json.dumps(trained.to_json() | {"kept": trained.name in selected}) for trained in results]
        write_file(self.path / TABLE, "".join(f"{line}\n" for line in lines))

    def remove_weights(self, names: set[str]) -> None:
        """Removes the weights of candidates that were not selected."""
        for name in names:
            self.weights(name).unlink(missing_ok=True)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_file(path, json.dumps(values, indent=1) + "\n")


def _parsed(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return parse(read_json_object(path))
    except (FileNotFoundError, DistillError, ModelError) as error:
        raise DistillError(f"{error}: remove {path}, and the search makes it again") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = printable(f"{type(error).__name__}: {error}")[:200]
        raise DistillError(f"{path} is damaged ({reason}): remove it, and the search makes it again") from None
