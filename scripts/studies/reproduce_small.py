"""The paper's claims at small scale, on real pictures: a table and a plot for each question.

    python scripts/studies/reproduce_small.py runs/claims                     # everything, three seeds
    python scripts/studies/reproduce_small.py runs/claims --dry-run       # what is left to do, with estimated minutes
    python scripts/studies/reproduce_small.py runs/claims --only a,c --seeds 5

Questions: (a) labels or distillation; (b) stored logits or the teacher online; (c) how many classes are kept; (d) how
they are encoded, chosen and completed; (e) replayed views or others; (f) few stored epochs or many; (g) shuffled in
windows or as a whole. docs/results.md says what each one is, and reads the results.

Students of 0.16 and 0.60 million parameters learn the embedded pictures of Fashion-MNIST from the quick start's teacher
(c and d also from an ImageNet teacher's thousand classes). Every arm of a question is trained once a seed, which draws
the student's weights and the order of the pictures, and the views where labels teach. Each training's result is a file
under FOLDER/cells: what is there is not done again, a training that was stopped goes on from its checkpoint, and
changed settings are another file. Everything is then written to FOLDER/results.json, FOLDER/tables.md and
FOLDER/QUESTION.png; with --docs docs/appendix/results.md also into that page and the folder docs/appendix/results.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from distill.config.command import exit_codes
from distill.errors import UsageError
from scripts.studies.claims import report
from scripts.studies.claims.jobs import held, run_jobs
from scripts.studies.claims.plan import Plan, make_plan
from scripts.studies.claims.questions import QUESTIONS, TINY, Question, Scale


def chosen(only: str | None) -> list[Question]:
    """The questions that `--only` names, by their letter or their key. **Raises:** `UsageError`."""
    if only is None:
        return list(QUESTIONS)
    wanted = only.split(",")
    known = {question.key for question in QUESTIONS} | {question.key[0] for question in QUESTIONS}
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(f"--only {','.join(unknown)}: choose from {', '.join(sorted(known))}")
    return [question for question in QUESTIONS if question.key in wanted or question.key[0] in wanted]


def show(plan: Plan, *, processes: int) -> None:
    """Prints every job and the estimated minutes of those that are left."""
    for job in plan.jobs:
        click.echo(f"{'done' if job.done else f'{job.minutes:.1f}':>6}  {job.name}")
    shared, alone = (
        sum(job.minutes for job in jobs if not job.done) for jobs in (sum(plan.stages, start=()), plan.alone)
    )
    click.echo(f"{shared:.0f} + {alone:.0f} minutes of one core left, {shared / processes + alone:.0f} by the clock")


@click.command(epilog="Example: python scripts/studies/reproduce_small.py runs/claims --only a,c --dry-run")
@click.argument("work", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False))
@click.option("--only", metavar="a,c,..", help="Only these questions.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Trainings of every arm.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1), help="Side by side, a core each.")
@click.option("--dry-run", is_flag=True, help="Print what is left to do and how long it may take.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Instead of FOLDER/results.json.")
@click.option(
    "--docs", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="A page to put tables and plots in."
)
@click.option("--tiny", is_flag=True, help="A few steps on a few pictures: shows that everything runs.")
@click.option("--first", type=click.IntRange(1), help="Only so many arms of each question.")
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
        with held(work):
            for stage in plan.stages:
                run_jobs(stage, processes=processes)
            run_jobs(plan.alone, processes=1)
        results = report.collect(plan, questions, scale, seeds=seeds, first=first)
        report.write(results, work, out=out)
        if docs:
            report.fill(docs, results)
        click.echo(f"{out or work / 'results.json'} written, with tables.md and a picture a question in {work}")


if __name__ == "__main__":
    main()
