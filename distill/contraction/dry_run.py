"""The dry run of a search: how long it would take at most."""

from __future__ import annotations

import math
from dataclasses import replace
from tempfile import TemporaryDirectory

from distill.contraction.costs import rounds_left
from distill.contraction.search import Search
from distill.contraction.train_candidate import student_of
from distill.runtime.measure import describe_time
from distill.student.dry_run import first_steps
from distill.student.setup import make_training


def estimate(search: Search) -> str:
    """Trains the initial architecture for some steps, in this process. Writes nothing.

    **Returns** lines with the time of the whole search, if every candidate were as slow as the initial architecture.
    """
    training, settings, processes = search.training, search.config.search, search.queue.world
    with TemporaryDirectory() as scratch:
        student_pass = replace(
            training.settings,
            student=student_of(search.config, search.initial, is_initial=True),
            run=replace(training.settings.run, dir=scratch),
        )
        student = make_training(student_pass, training.runtime, training.num_classes)
        step_seconds, text = first_steps(student_pass, training.work, student, training.runtime)
    steps = training.work.plan.total_steps
    initial_steps = steps if settings.seed_steps is None else settings.seed_steps
    rounds = rounds_left(search.cost_model.of(search.initial), search.final_limits, shrink=settings.shrink)
    seconds = (initial_steps + rounds * math.ceil(settings.candidates / processes) * steps) * step_seconds
    return (
        f"{text}\n{rounds} rounds and {1 + rounds * settings.candidates} candidates at most, {processes} at a time\n"
        f"about {describe_time(seconds)} at most and the time of the ranking: candidates are smaller than the "
        "architecture that was timed\ndry run: nothing was written"
    )
