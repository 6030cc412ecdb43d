"""The rounds of a contraction: propose neighbours, train them, select the best, until the limits are kept.

    round 0   the initial architecture, trained: its weights are the first to be inherited
    round n   neighbours of the best of round n - 1, all within limits between its costs and the final limits

(TinyViT, arXiv 2207.10666, section 3.2: a constrained local search in the space of contraction factors.) Every decision
follows from the settings and from files of earlier rounds, so a search that was killed and started again ends as an
undisturbed one does. Only costs that are measured on the device may differ, until their round is written.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from distill import models
from distill.config import ContractConfig
from distill.contraction.costs import (
    CostModel,
    analytic_costs,
    final_limits_of,
    format_costs,
    round_limits,
    within,
)
from distill.contraction.proposals import propose, reachable
from distill.contraction.search_dir import Candidate, Round, SearchDir, TrainedCandidate
from distill.contraction.task_queue import TaskQueue
from distill.contraction.train_candidate import CandidateTraining, train_candidate
from distill.errors import DistillError
from distill.models import TinyViT, TinyViTConfig
from distill.models.contraction.slicing import slice_weights
from distill.models.contraction.space import FACTORS, Space, floors, head_dim_of
from distill.runtime.progress import Progress

_FLOORS_MEASURED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """All parts of a search, made from the configuration."""

    config: ContractConfig
    initial: TinyViTConfig
    """The architecture that the search starts from."""
    space: Space
    cost_model: CostModel
    training: CandidateTraining
    directory: SearchDir
    queue: TaskQueue
    stop: Callable[[], str | None]
    """Why to stop now, or None."""

    @property
    def final_limits(self) -> dict[str, float]:
        return final_limits_of(self.config.limits)


@dataclass(slots=True)
class SearchState:
    """The candidates of the rounds so far."""

    results: list[TrainedCandidate] = field(default_factory=list)
    """All of them, round by round."""
    selected: set[str] = field(default_factory=set)
    """Names of the best of each round."""
    pending: list[TrainedCandidate] = field(default_factory=list)
    """Selected in the last round, and still above the final limits."""
    done: list[TrainedCandidate] = field(default_factory=list)
    """Selected in any round, and within the final limits."""


def make_space(config: ContractConfig) -> Space:
    """The step size and the minimum of every factor."""
    strides, least = {}, {}
    for name in FACTORS:
        key, _, stage = name.partition(".")
        minimum = getattr(config.least, key)
        strides[name] = getattr(config.strides, key)
        least[name] = minimum[int(stage)] if stage else minimum
    return Space(step_sizes=strides, minimums=least)


def initial_architecture(config: ContractConfig, *, num_classes: int) -> TinyViTConfig:
    """The architecture that the search starts from. **Raises:** `ModelError` where it is no point of the space."""
    student = config.student
    sizes = {"num_classes": num_classes, "image_size": student.image_size, "drop_path": student.drop_path}
    initial = models.resolve_config(student.name, dimensions={**student.dimensions(), **sizes})
    head_dim_of(initial)
    return initial


def check_final_limits(search: Search) -> None:
    """**Raises:** `DistillError` if there is nothing to contract, or the final limits are out of reach."""
    limits, costs = search.final_limits, search.cost_model.of(search.initial)
    if within(costs, limits):
        raise DistillError(
            f"there is nothing to contract: the initial architecture is within the limits, with {format_costs(costs)}"
        )
    if reachable(search.initial, search.space, limits) is None:
        smallest = min(
            map(analytic_costs, floors(search.initial, search.space)), key=lambda floor_costs: [*floor_costs.values()]
        )
        raise DistillError(
            f"the limits are out of reach: {format_costs(limits)} at most, and the smallest architecture below the "
            f"initial one has {format_costs(smallest)}. Raise the limits, or lower least.* or strides.*"
        )
    floors_within = (floor for floor in floors(search.initial, search.space) if within(analytic_costs(floor), limits))
    measured_floors = list(itertools.islice(floors_within, _FLOORS_MEASURED))
    if not any(search.cost_model.fits(floor, limits) for floor in measured_floors):
        fastest = min(map(search.cost_model.of, measured_floors), key=lambda c: c[search.cost_model.measured[0]])
        raise DistillError(
            f"the measured limits are out of reach: {format_costs(limits)} at most, and the smallest architectures "
            f"take {format_costs(fastest)} on {search.training.runtime.device.type}. Raise the limits, or lower least.*"
        )


def run_rounds(search: Search) -> SearchState:
    """Runs the rounds that are not finished. **Returns** the same at every process, with at least one candidate in
    `done`, best first.

    **Raises:** `DistillError` where a round has no neighbour within its limits or all its candidates diverge;
    `Stopped` where `search.stop` gives a reason.
    """
    state, rank_by, number = SearchState(), search.config.search.rank_by, 0
    while True:
        decide = partial(_decide_round, search, state, number)
        round_ = Round.from_json(json.loads(search.queue.from_main(f"round {number}", decide, stop=search.stop)))
        _train_round(search, round_)
        results = [_result(search, candidate) for candidate in round_.candidates]
        best = ranked(results, by=rank_by)[: search.config.search.beam]
        state.results += results
        state.selected |= {trained.name for trained in best}
        state.done += [trained for trained in best if within(trained.candidate.costs, search.final_limits)]
        state.pending = [trained for trained in best if trained not in state.done]
        if search.queue.is_main:
            search.directory.write_table(state.results, state.selected)
            search.directory.remove_weights({trained.name for trained in results} - state.selected)
            print(_describe(round_, best), flush=True)
        if not best:
            raise DistillError(
                f"round {number}: the training of every candidate diverged. Try a lower optim.lr, a longer warm-up, or "
                "another compute.precision, in a new run.dir"
            )
        if not state.pending:
            state.done = ranked(state.done, by=rank_by)
            return state
        number += 1


def ranked(results: Sequence[TrainedCandidate], *, by: str) -> list[TrainedCandidate]:
    """Best first, without those that diverged; of equal scores the one with fewer parameters."""

    def key(trained: TrainedCandidate) -> tuple[float, float, str]:
        score = trained.loss if by == "loss" else -trained.agreement
        return score, trained.candidate.costs["params"], trained.name

    return sorted((trained for trained in results if math.isfinite(trained.loss)), key=key)


def _decide_round(search: Search, state: SearchState, number: int) -> str:
    """The round as it was written before, or a new one, which is written; as JSON."""
    round_ = search.directory.read_round(number)
    if round_ is None:
        round_ = _propose_round(search, state, number) if number else _round_0(search)
        search.directory.write_round(round_)
    for candidate in round_.candidates:
        search.cost_model.add(candidate.config, candidate.costs)
    return json.dumps(round_.to_json())


def _round_0(search: Search) -> Round:
    initial = Candidate(name="00-00", parent=None, config=search.initial, costs=search.cost_model.of(search.initial))
    return Round(number=0, limits={}, candidates=(initial,))


def _propose_round(search: Search, state: SearchState, number: int) -> Round:
    settings = search.config.search
    # Of several parents, the limit of each cost follows from the cheapest one.
    costs = {
        name: min(parent.candidate.costs[name] for parent in state.pending) for name in state.pending[0].candidate.costs
    }
    limits = round_limits(costs, search.final_limits, shrink=settings.shrink)
    parents: dict[TinyViTConfig, str] = {}
    for position, parent in enumerate(state.pending):
        # Candidates are divided evenly among parents; those that one parent did not find go to the next.
        count = settings.candidates * (position + 1) // len(state.pending) - len(parents)
        configs = propose(
            parent.candidate.config, space=search.space, cost_model=search.cost_model, limits=limits,
            final_limits=search.final_limits, count=max(1, count), factors=settings.factors,
            seed=f"{settings.seed} {number} {parent.name}",
        )  # fmt: skip
        parents |= {config: parent.name for config in configs if config not in parents}
    if not parents:
        raise DistillError(
            f"round {number} has no neighbour of {', '.join(parent.name for parent in state.pending)} within its "
            f"limits, {format_costs(limits)}, on {search.training.runtime.device.type}. Raise the measured limits, or "
            "lower least.*"
        )
    candidates = tuple(
        Candidate(name=f"{number:02d}-{n:02d}", parent=parent, config=config, costs=search.cost_model.of(config))
        for n, (config, parent) in enumerate(parents.items())
    )
    return Round(number=number, limits=limits, candidates=candidates)


def _train_round(search: Search, round_: Round) -> None:
    """Trains the candidates of a round that are not finished, each by the process that takes it from the queue."""
    directory, candidates, key = search.directory, round_.candidates, f"round {round_.number}"

    def num_finished() -> int:
        return sum(directory.read_result(candidate.name) is not None for candidate in candidates)

    with Progress(
        key, total=len(candidates), unit="candidates", done=num_finished(), shown=search.queue.is_main
    ) as progress:
        for number in search.queue.take(key, len(candidates)):
            candidate = candidates[number]
            if directory.read_result(candidate.name) is None:
                text = f"{candidate.name}: {format_costs(candidate.costs)}"
                progress.advance(num_finished() - progress.done, text=text)
                _train(search, candidate)
        search.queue.wait_for_all(key, stop=search.stop)
        progress.advance(num_finished() - progress.done)


def _train(search: Search, candidate: Candidate) -> None:
    """Trains a candidate and writes its result, after its weights."""
    directory, init = search.directory, None
    if candidate.parent and search.config.search.inherit == "slice":
        init = directory.inherited_weights(candidate.name)
        _write_inherited_weights(search, candidate, candidate.parent, init)
    try:
        trained = train_candidate(
            search.training, candidate, init=init, weights=directory.weights(candidate.name), stop=search.stop
        )
    finally:
        if init:
            init.unlink(missing_ok=True)
    directory.write_result(trained)


def _write_inherited_weights(search: Search, candidate: Candidate, parent_name: str, path: Path) -> None:
    parent = search.directory.read_result(parent_name)
    assert parent is not None
    parent_net, net = TinyViT(parent.candidate.config), TinyViT(candidate.config)
    models.load_weights(parent_net, search.directory.weights(parent_name))
    net.load_state_dict(slice_weights(parent_net, candidate.config, channels=search.config.search.channels))
    models.save_weights(net, path, metadata={})


def _result(search: Search, candidate: Candidate) -> TrainedCandidate:
    trained = search.directory.read_result(candidate.name)
    if trained is None:
        raise DistillError(
            f"candidate {candidate.name} is not in {search.directory.path}: another process finished it, so run.dir "
            "must be on storage that all machines share"
        )
    return trained


def _describe(round_: Round, best: Sequence[TrainedCandidate]) -> str:
    """A round and its selected candidates, one line each."""
    text = f", within {format_costs(round_.limits)}" if round_.limits else ", the initial architecture"
    lines = [f"round {round_.number}: {len(round_.candidates)} trained{text}"]
    lines += [
        f"  {trained.name}: loss {trained.loss:.4f}, agreement {trained.agreement:.2f} %, "
        f"{format_costs(trained.candidate.costs)}"
        for trained in best
    ]
    return "\n".join(lines)
