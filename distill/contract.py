"""Contraction: makes a small student from a large one, by a search under hard limits that trains from a store.

    python -m distill.contract data.path=DATA store.path=T.zarr student=tiny_vit_21m student.init=FILE \\
        search.seed_steps=0 limits.params=11e6 limits.macs=2.1e9 train.steps=2000 run.dir=runs/contract

In rounds, candidates that lower a few dimensions of the best one so far are trained briefly and ranked on held-out
rows. Only candidates within the limits of their round are trained. run.dir gets every candidate with costs and scores,
a report with a plot, and the student, ready for `distill.train_student`. The same command started again goes on;
finished candidates are not repeated. Several processes train different candidates: `torchrun --nproc_per_node 8 -m
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
from distill.contraction.costs import format_costs, make_cost_model
from distill.contraction.dry_run import estimate
from distill.contraction.search import Search, check_final_limits, initial_architecture, make_space, run_rounds
from distill.contraction.search_dir import CANDIDATES, SearchDir
from distill.contraction.task_queue import TaskQueue, start_single_process
from distill.contraction.train_candidate import make_candidate_training
from distill.runs import run_dir
from distill.runtime.processes import Runtime
from distill.runtime.stopping import Stopping
from distill.student.dry_run import nothing


def main(config: ContractConfig) -> None:
    began = time.monotonic()
    queue = TaskQueue()
    runtime = start_single_process(config.compute, queue)
    with Stopping(runtime, time_limit=time_limit_seconds(config.run.time_limit), began=began) as stopping:
        search = _make_search(config, runtime, queue, stop=stopping.agreed)
        queue.from_main("start", lambda: _begin(search), stop=search.stop)
        state = None if report.is_written(search.directory) else run_rounds(search)
        if queue.is_main:
            if state:
                report.write(search, state)
            print(report.final_message(search), flush=True)
        queue.wait_for_all("end", stop=search.stop)
        runtime.finish()


def dry_run(config: ContractConfig) -> None:
    """Checks that the search is possible, trains its initial architecture for some steps, and prints how long the whole
    would take at most. Writes nothing."""
    queue = TaskQueue()
    runtime = start_single_process(config.compute, queue)
    search = _make_search(config, runtime, queue, stop=nothing)
    if queue.is_main:
        check_final_limits(search)
        run_dir.is_there(config)
        print(_describe(search), flush=True)
        print(estimate(search), flush=True)
    queue.wait_for_all("end", stop=nothing)
    runtime.finish()


def _make_search(
    config: ContractConfig, runtime: Runtime, queue: TaskQueue, *, stop: Callable[[], str | None]
) -> Search:
    assert config.run.dir
    training = make_candidate_training(config, runtime)
    return Search(
        config=config,
        initial=initial_architecture(config, num_classes=training.num_classes),
        space=make_space(config),
        cost_model=make_cost_model(config, runtime),
        training=training,
        directory=SearchDir(Path(config.run.dir)),
        queue=queue,
        stop=stop,
    )


def _begin(search: Search) -> str:
    """Checks that the search is possible, and makes its directory."""
    check_final_limits(search)
    folder = run_dir.prepare(search.config)
    (folder / CANDIDATES).mkdir(exist_ok=True)
    print(_describe(search), flush=True)
    return "begun"


def _describe(search: Search) -> str:
    split, steps = search.training.split, search.training.work.plan.total_steps
    return (
        f"from {format_costs(search.cost_model.of(search.initial))} to {format_costs(search.final_limits)} at most\n"
        f"{search.config.search.candidates} candidates per round, {steps} steps each on rows 0 to {split.train - 1}, "
        f"ranked on rows {split.train} to {split.end - 1}"
    )


PROGRAM = Program(main, "contract", schema=ContractConfig, about=__doc__, dry_run=dry_run)

if __name__ == "__main__":
    run_program(PROGRAM)
