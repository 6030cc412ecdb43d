"""The rounds of a contraction: propose neighbours, train them, keep the best, until the limits are kept.

    round 0   the architecture that the search starts from, trained: its weights are what is inherited
    round n   neighbours of the best of round n - 1, all within limits that lie between its costs and the targets

(TinyViT, arXiv 2207.10666, section 3.2: a constrained local search in the space of contraction factors.) Every decision
follows from the settings and from files that are there already, so a search that was killed ends where an undisturbed
one does; only what is measured on the device may differ, until its round is written down.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from distill import models
from distill.config import ContractConfig
from distill.contraction.costs import Pricing, price, round_limits, shown, targets_of, within
from distill.contraction.proposals import propose, reachable
from distill.contraction.search_dir import Candidate, Folder, Round, Trained
from distill.contraction.task_queue import Team
from distill.contraction.train_candidate import Proxy, train_candidate
from distill.errors import DistillError
from distill.models import TinyViT, TinyViTConfig
from distill.models.contraction.slicing import slice_weights
from distill.models.contraction.space import FACTORS, Space, floors, head_dim_of
from distill.runtime.progress import Progress

_FLOORS_MEASURED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A search, ready to go."""

    config: ContractConfig
    seed: TinyViTConfig
    space: Space
    pricing: Pricing
    proxy: Proxy
    folder: Folder
    team: Team
    stop: Callable[[], str | None]

    @property
    def targets(self) -> dict[str, float]:
        return targets_of(self.config.limits)


@dataclass(slots=True)
class Found:
    """What a search has come to."""

    results: list[Trained] = field(default_factory=list)
    """Every trained candidate, round by round."""
    pending: list[Trained] = field(default_factory=list)
    """The best of the last round that are still above the targets."""
    done: list[Trained] = field(default_factory=list)
    """Those kept that are within the targets."""
    kept: set[str] = field(default_factory=set)
    """Names of all that were kept in their round."""


def make_space(config: ContractConfig) -> Space:
    """The strides and least values of every factor."""
    strides, least = {}, {}
    for name in FACTORS:
        key, _, stage = name.partition(".")
        lowest = getattr(config.least, key)
        strides[name] = getattr(config.strides, key)
        least[name] = lowest[int(stage)] if stage else lowest
    return Space(step_sizes=strides, minimums=least)


def seed_architecture(config: ContractConfig, *, num_classes: int) -> TinyViTConfig:
    """The architecture that the search starts from. **Raises:** `ModelError` where it is no point of the space."""
    student = config.student
    sizes = {"num_classes": num_classes, "image_size": student.image_size, "drop_path": student.drop_path}
    seed = models.resolve_config(student.name, dimensions={**student.dimensions(), **sizes})
    head_dim_of(seed)
    return seed


def check_targets(task: Task) -> None:
    """**Raises:** `DistillError` if there is nothing to contract, or the targets are out of reach."""
    targets, costs = task.targets, task.pricing.of(task.seed)
    if within(costs, targets):
        raise DistillError(
            f"there is nothing to contract: the architecture to start from has {shown(costs)}, within the limits"
        )
    if reachable(task.seed, task.space, targets) is None:
        smallest = price(min(floors(task.seed, task.space), key=lambda floor: tuple(price(floor).values())))
        raise DistillError(
            f"the limits are out of reach: {shown(targets)} at most, and the smallest architecture under the one to "
            f"start from has {shown(smallest)}. Loosen limits, or lower least.* or strides.*"
        )
    fitting = (floor for floor in floors(task.seed, task.space) if within(price(floor), targets))
    smallest_ones = list(itertools.islice(fitting, _FLOORS_MEASURED))
    if not any(task.pricing.fits(floor, targets) for floor in smallest_ones):
        best = min((task.pricing.of(floor) for floor in smallest_ones), key=lambda costs: costs[task.pricing.names[0]])
        raise DistillError(
            f"the measured limits are out of reach: {shown(targets)} at most, and the smallest architectures take "
            f"{shown(best)} on {task.proxy.process.device.type}. Loosen limits, or lower least.*"
        )


def search(task: Task) -> Found:
    """Runs the rounds, or what is left of them. **Returns** the same at every process, with one candidate at least in
    `done`. **Raises:** `DistillError` where a round finds no neighbour within its limits; `Stopped`."""
    found = Found()
    for number in itertools.count():
        decide = partial(_decided, task, found, number)
        round_ = Round.from_json(json.loads(task.team.from_main(f"round {number}", decide, stop=task.stop)))
        _work(task, round_)
        results = [_result(task, candidate) for candidate in round_.candidates]
        best = ranked(results, by=task.config.search.rank_by)[: task.config.search.beam]
        found.results += results
        found.kept |= {each.name for each in best}
        found.done += [each for each in best if within(each.candidate.costs, task.targets)]
        found.pending = [each for each in best if each not in found.done]
        if task.team.is_main:
            task.folder.write_table(found.results, found.kept)
            task.folder.drop_weights({each.name for each in results} - found.kept)
            print(_sentence(round_, best), flush=True)
        if not best:
            raise DistillError(
                f"round {number}: the training of every candidate diverged. Try a lower optim.lr, a longer warm-up, or "
                "another compute.precision, in a new run.dir"
            )
        if not found.pending:
            found.done = ranked(found.done, by=task.config.search.rank_by)
            return found
    raise AssertionError("rounds end")


def ranked(results: Sequence[Trained], *, by: str) -> list[Trained]:
    """Best first, without those that diverged; of equal scores the one with fewer parameters."""

    def key(each: Trained) -> tuple[float, float, str]:
        return each.loss if by == "loss" else -each.agreement, each.candidate.costs["params"], each.name

    return sorted((each for each in results if math.isfinite(each.loss)), key=key)


def _decided(task: Task, found: Found, number: int) -> str:
    """A round as it was written down, or a new one, written down; as JSON."""
    round_ = task.folder.round(number)
    if round_ is None:
        round_ = _proposed(task, found, number) if number else _first(task)
        task.folder.begin(round_)
    for candidate in round_.candidates:
        task.pricing.know(candidate.config, candidate.costs)
    return json.dumps(round_.to_json())


def _first(task: Task) -> Round:
    seed = Candidate(name="00-00", parent=None, config=task.seed, costs=task.pricing.of(task.seed))
    return Round(number=0, limits={}, candidates=(seed,))


def _proposed(task: Task, found: Found, number: int) -> Round:
    options = task.config.search
    # Of several parents the one that is cheapest in a measure sets the pace in it.
    costs = {
        name: min(each.candidate.costs[name] for each in found.pending) for name in found.pending[0].candidate.costs
    }
    limits = round_limits(costs, task.targets, shrink=options.shrink)
    parents: dict[TinyViTConfig, str] = {}
    for place, parent in enumerate(found.pending):
        share = options.candidates * (place + 1) // len(found.pending) - len(parents)
        configs = propose(
            parent.candidate.config, space=task.space, pricing=task.pricing, limits=limits, targets=task.targets,
            count=max(1, share), factors=options.factors,
            seed=f"{options.seed} {number} {parent.name}",
        )  # fmt: skip
        parents |= {config: parent.name for config in configs if config not in parents}
    if not parents:
        raise DistillError(
            f"round {number} found no neighbour of {', '.join(each.name for each in found.pending)} within its limits, "
            f"{shown(limits)}, on {task.proxy.process.device.type}. Loosen the measured limits, or lower least.*"
        )
    candidates = tuple(
        Candidate(name=f"{number:02d}-{n:02d}", parent=parent, config=config, costs=task.pricing.of(config))
        for n, (config, parent) in enumerate(parents.items())
    )
    return Round(number=number, limits=limits, candidates=candidates)


def _work(task: Task, round_: Round) -> None:
    """Trains the candidates of a round that are not finished, shared out among the processes."""
    folder, candidates = task.folder, round_.candidates

    def finished() -> int:
        return sum(folder.result(candidate.name) is not None for candidate in candidates)

    with Progress(
        f"round {round_.number}", total=len(candidates), unit="candidates", done=finished(), shown=task.team.is_main
    ) as progress:
        for number in task.team.shares(f"round {round_.number}", len(candidates)):
            candidate = candidates[number]
            if folder.result(candidate.name) is None:
                progress.advance(finished() - progress.done, text=f"{candidate.name}: {shown(candidate.costs)}")
                _train(task, candidate)
        task.team.meet(f"round {round_.number}", stop=task.stop)
        progress.advance(finished() - progress.done)


def _train(task: Task, candidate: Candidate) -> None:
    folder, init = task.folder, None
    if candidate.parent and task.config.search.inherit == "slice":
        init = folder.inherited(candidate.name)
        parent = folder.result(candidate.parent)
        assert parent is not None
        with_weights = TinyViT(parent.candidate.config)
        models.load_weights(with_weights, folder.weights(parent.name))
        net = TinyViT(candidate.config)
        net.load_state_dict(
            slice_weights(with_weights, candidate.config, channels=task.config.search.channels), strict=True
        )
        models.save_weights(net, init, metadata={})
    try:
        trained = train_candidate(
            task.proxy, candidate, init=init, weights=folder.weights(candidate.name), stop=task.stop
        )
    finally:
        if init:
            init.unlink(missing_ok=True)
    folder.finish(trained)


def _result(task: Task, candidate: Candidate) -> Trained:
    trained = task.folder.result(candidate.name)
    if trained is None:
        raise DistillError(
            f"candidate {candidate.name} is not in {task.folder.path}: another process finished it, so run.dir must be "
            "seen by all machines"
        )
    return trained


def _sentence(round_: Round, best: Sequence[Trained]) -> str:
    within_limits = f", within {shown(round_.limits)}" if round_.limits else ", the architecture to start from"
    lines = [f"round {round_.number}: {len(round_.candidates)} trained{within_limits}"]
    for each in best:
        lines.append(
            f"  {each.name}: loss {each.loss:.4f}, agreement {each.agreement:.2f} %, {shown(each.candidate.costs)}"
        )
    return "\n".join(lines)
