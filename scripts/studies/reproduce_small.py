"""The paper's results reproduced at small scale, on real images: a table and a plot for each question.

    python scripts/studies/reproduce_small.py runs/small                  # everything, three seeds
    python scripts/studies/reproduce_small.py runs/small --dry-run        # what is left to do, with estimated minutes
    python scripts/studies/reproduce_small.py runs/small --only a,c --seeds 5

Questions: (a) labels or distillation; (b) stored logits or the teacher online; (c) how many classes are stored; (d) how
they are encoded, selected and completed by a tail; (e) replayed views or others; (f) few stored epochs or many;
(g) shuffled in windows or as a whole. docs/results.md explains each question and its result.

Students of 0.16 and 0.60 million parameters learn the embedded images of Fashion-MNIST from the quick start's teacher
(c and d also from the 1,000 classes of an ImageNet teacher). Every arm of a question is trained once per seed, which
draws the student's weights and the order of the images, and the views of training on labels. The result of each
training is a file in FOLDER/cells: existing ones are not made again, a training that was stopped resumes from its
checkpoint, and changed settings have another file. Everything is then written to FOLDER/results.json, FOLDER/tables.md
and FOLDER/QUESTION.png; with --docs docs/appendix/results.md also into that page and the folder docs/appendix/results.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from distill.config.command import exit_codes
from distill.errors import UsageError
from scripts.studies.reproduced import report
from scripts.studies.reproduced.jobs import locked, run_jobs
from scripts.studies.reproduced.plan import Plan, make_plan
from scripts.studies.reproduced.questions import QUESTIONS, TINY, Question, Scale


def chosen(only: str | None) -> list[Question]:
    """The questions that `--only` names, by letter or key. **Raises:** `UsageError`."""
    if only is None:
        return list(QUESTIONS)
    wanted = only.split(",")
    names = {question.key for question in QUESTIONS} | {question.key[0] for question in QUESTIONS}
    if unknown := [name for name in wanted if name not in names]:
        raise UsageError(f"--only {','.join(unknown)}: choose from {', '.join(sorted(names))}")
    return [question for question in QUESTIONS if question.key in wanted or question.key[0] in wanted]


def show(plan: Plan, *, processes: int) -> None:
    """Prints every job, and the estimated minutes of those that are left."""
    for job in plan.jobs:
        click.echo(f"{'done' if job.done else f'{job.minutes:.1f}':>6}  {job.name}")
    parallel, alone = (
        sum(job.minutes for job in jobs if not job.done) for jobs in (sum(plan.stages, start=()), plan.alone)
    )
    wall_clock = parallel / processes + alone
    click.echo(
        f"{parallel:.0f} + {alone:.0f} minutes of one core left, about {wall_clock:.0f} minutes of wall-clock time"
    )


@click.command(epilog="Example: python scripts/studies/reproduce_small.py runs/small --only a,c --dry-run")
@click.argument("work", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
@click.option("--only", metavar="a,c,..", help="Only these questions.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Trainings per arm.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1), help="Trainings in parallel.")
@click.option("--dry-run", is_flag=True, help="Print what is left to do and how long it may take.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Instead of FOLDER/results.json.")
@click.option(
    "--docs", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="A page to put tables and plots in."
)
@click.option("--tiny", is_flag=True, help="A few steps on a few images: only shows that everything runs.")
@click.option("--first", type=click.IntRange(1), help="Only the first arms of each question.")
def main(
    work: Path, only: str | None, seeds: int, processes: int, dry_run: bool, out: Path | None, docs: Path | None,
    tiny: bool, first: int | None,
) -> None:  # fmt: skip
    """Trains what is missing in FOLDER, and writes results, tables and plots."""
    with exit_codes():
        questions, scale = chosen(only), TINY if tiny else Scale()
        plan = make_plan(work.absolute(), questions, scale, seeds=seeds, first=first)
        if dry_run:
            show(plan, processes=processes)
            return
        with locked(work):
            for stage in plan.stages:
                run_jobs(stage, processes=processes)
            run_jobs(plan.alone, processes=1)
        results = report.collect(plan, questions, scale, seeds=seeds, first=first)
        report.write(results, work, out=out)
        if docs:
            report.fill(docs, results)
        click.echo(f"{out or work / 'results.json'} written, with tables.md and a plot per question in {work}")


if __name__ == "__main__":
    main()
