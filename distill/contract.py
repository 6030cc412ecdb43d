"""Contraction: makes a small student from a large one, by a search under hard limits that trains from a store.

    python -m distill.contract data.path=DATA store.path=T.zarr student=tiny_vit_21m student.init=FILE \\
        search.seed_steps=0 limits.params=11e6 limits.macs=2.1e9 train.steps=2000 run.dir=runs/contract

In rounds, candidates that lower a few dimensions of the best one so far are trained briefly and ranked on rows that
were held out. Nothing outside the limits is ever kept. The folder gets every candidate with costs and score, a report
with a plot, and the student, ready for `distill.train_student`. The same command started again goes on; finished
candidates are not repeated. Several processes train different candidates: `torchrun --nproc_per_node 8 -m
distill.contract ...`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from distill.config import ContractConfig
from distill.config.command import Program, run_program
from distill.config.durations import time_limit_seconds
from distill.contraction import report
from distill.contraction.costs import make_pricing, shown
from distill.contraction.dry_run import rehearse_search
from distill.contraction.search import Task, check_targets, make_space, search, seed_architecture
from distill.contraction.search_dir import CANDIDATES, Folder
from distill.contraction.task_queue import Team, start_alone
from distill.contraction.train_candidate import make_proxy
from distill.runs import run_dir
from distill.runtime.processes import Runtime
from distill.runtime.stopping import Stopping
from distill.student.dry_run import nothing


def main(config: ContractConfig) -> None:
    began = time.monotonic()
    team = Team()
    runtime = start_alone(config.compute, team)
    with Stopping(runtime, time_limit=time_limit_seconds(config.run.time_limit), began=began) as stopping:
        task = _make_task(config, runtime, team, stop=stopping.agreed)
        team.from_main("start", lambda: _begin(task), stop=task.stop)
        found = None if report.is_written(task.folder) else search(task)
        if team.is_main:
            if found:
                report.write(task, found)
            print(report.closing(task), flush=True)
        team.meet("end", stop=task.stop)
        runtime.finish()


def dry_run(config: ContractConfig) -> None:
    """Checks that the search can be done, trains its first architecture for some steps, and prints what the whole would
    take at most. Writes nothing."""
    team = Team()
    runtime = start_alone(config.compute, team)
    task = _make_task(config, runtime, team, stop=nothing)
    if team.is_main:
        check_targets(task)
        run_dir.is_there(config)
        print(_described(task), flush=True)
        print(rehearse_search(task), flush=True)
    team.meet("end", stop=nothing)
    runtime.finish()


def _make_task(config: ContractConfig, runtime: Runtime, team: Team, *, stop: Callable[[], str | None]) -> Task:
    assert config.run.dir
    proxy = make_proxy(config, runtime)
    return Task(
        config=config,
        seed=seed_architecture(config, num_classes=proxy.num_classes),
        space=make_space(config),
        pricing=make_pricing(config, runtime),
        proxy=proxy,
        folder=Folder(Path(config.run.dir)),
        team=team,
        stop=stop,
    )


def _begin(task: Task) -> str:
    """Checks that the search can be done, and makes its folder."""
    check_targets(task)
    folder = run_dir.prepare(task.config)
    (folder / CANDIDATES).mkdir(exist_ok=True)
    print(_described(task), flush=True)
    return "begun"


def _described(task: Task) -> str:
    rows = task.proxy.split
    return (
        f"from {shown(task.pricing.of(task.seed))} to {shown(task.targets)} at most\n"
        f"{task.config.search.candidates} candidates a round, {task.proxy.work.plan.total_steps} steps each on rows 0 "
        f"to {rows.train - 1}, ranked on rows {rows.train} to {rows.end - 1}"
    )


PROGRAM = Program(main, "contract", schema=ContractConfig, about=__doc__, dry_run=dry_run)

if __name__ == "__main__":
    run_program(PROGRAM)
