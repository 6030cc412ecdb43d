"""The dry run of a search: what it would take at most."""

from __future__ import annotations

import math
from dataclasses import replace
from tempfile import TemporaryDirectory

from distill.contraction.costs import rounds_left
from distill.contraction.search import Task
from distill.contraction.train_candidate import student_of
from distill.runtime.measure import describe_time
from distill.student.dry_run import first_steps
from distill.student.setup import make_training


def rehearse_search(task: Task) -> str:
    """Trains the architecture that a search starts from for some steps, in this process. Writes nothing.

    **Returns** lines that tell what the whole search would take, were every candidate as slow as the first.
    """
    proxy, search, world = task.proxy, task.config.search, task.team.world
    with TemporaryDirectory() as scratch:
        settings = replace(proxy.settings, student=student_of(task.config, task.seed, is_seed=True))
        settings = replace(settings, run=replace(settings.run, dir=scratch))
        training = make_training(settings, proxy.runtime, proxy.num_classes)
        step_seconds, text = first_steps(settings, proxy.work, training, proxy.runtime)
    steps = proxy.work.plan.total_steps
    first = steps if search.seed_steps is None else search.seed_steps
    rounds = rounds_left(task.pricing.of(task.seed), task.targets, shrink=search.shrink)
    seconds = (first + rounds * math.ceil(search.candidates / world) * steps) * step_seconds
    return (
        f"{text}\n{rounds} rounds and {1 + rounds * search.candidates} candidates at most, {world} at a time\n"
        f"about {describe_time(seconds)} at most and the time of the ranking: candidates are smaller than the "
        "architecture that was timed\ndry run: nothing was written"
    )
