"""The Slurm scripts with stand-ins for Slurm and for python: what is submitted, what a signal or a failure leads to.

`scripts/slurm/rehearse.sh` runs them on a real Slurm; docs/appendix/slurm-dry-run.md has what it printed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts" / "slurm"
FILES = sorted(path.name for path in SCRIPTS.iterdir())

# Each writes its words to the log. sbatch answers with a job's number; srun becomes the command behind its options.
STAND_INS = {
    "sbatch": 'echo "sbatch SHARES=${SHARES:-} $*" >>"$LOG"\nwc -l <"$LOG"',
    "scontrol": 'if [ "$1" = show ]; then echo node7; echo node8; else echo "scontrol $*" >>"$LOG"; fi',
    "squeue": 'echo "${STATE:-RUNNING}"',
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"',
    "python": """echo "python $*" >>"$LOG"
[ -z "${MARKER:-}" ] || trap 'echo "SIGUSR1, after step 7" >"$MARKER"; exit 75' USR1
for _ in $(seq "${TICKS:-0}"); do sleep 0.05; done
exit "${CODE:-0}\"""",
}


@dataclass(frozen=True)
class Bench:
    """A folder with the stand-ins."""

    folder: Path

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def start(self, script: str, *words: str, **env: str) -> subprocess.Popen[str]:
        slurm = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[7-8]"}
        mine = {"PATH": f"{self.folder}:{os.environ['PATH']}", "LOG": str(self.folder / "log"), "SETUP": ":"}
        return subprocess.Popen(
            ["bash", str(SCRIPTS / script), *words], cwd=self.folder, env=os.environ | slurm | mine | env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, script: str, *words: str, **env: str) -> tuple[int, str]:
        process = self.start(script, *words, **env)
        out, _ = process.communicate(timeout=60)
        return process.returncode, out


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")  # Jobs run in the folder that they were submitted in.
    return Bench(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_bash_can_read_it(name: str) -> None:
    subprocess.run(["bash", "-n", str(SCRIPTS / name)], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    result = subprocess.run(
        ["shellcheck", "-x", "-P", str(ROOT), *(str(SCRIPTS / name) for name in FILES)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


def test_a_teacher_pass_is_three_jobs_that_wait_for_each_other(bench: Bench) -> None:
    code, out = bench.run("submit_teacher.sh", "16", "teacher=timm", "store.path=T.zarr")
    assert code == 0, out
    make, fill, check = bench.log
    assert make.startswith("sbatch SHARES= --parsable ") and make.endswith(
        "teacher_make.sbatch teacher=timm store.path=T.zarr"
    )
    assert fill.startswith("sbatch SHARES=16 --parsable --array=0-15 --dependency=afterok:1 ")
    assert fill.endswith("teacher_share.sbatch teacher=timm store.path=T.zarr")
    assert "--dependency=afterany:2 " in check and "teacher_check.sbatch" in check
    assert "array 2 fills it in 16 shares" in out
    for words in (["0", "store.path=T"], ["many", "store.path=T"], ["4"]):
        assert bench.run("submit_teacher.sh", *words)[0] == 2
    assert len(bench.log) == 3


def test_each_job_runs_its_program(bench: Bench) -> None:
    assert bench.run("teacher_make.sbatch", "store.path=T.zarr")[0] == 0
    assert bench.run("teacher_check.sbatch", "store.path=T.zarr", CODE="1")[0] == 1
    code, out = bench.run("teacher_share.sbatch", "store.path=T.zarr", SHARES="16", SLURM_ARRAY_TASK_ID="3")
    assert code == 0, out
    assert bench.run("student.sbatch", f"run.dir={bench.folder}/run", SLURM_GPUS_ON_NODE="8")[0] == 0
    make, check, share, student = bench.log
    assert make == "python -m distill.save_logits store.path=T.zarr run.make_only=true"
    assert check == "python -m logitstore check T.zarr"
    assert share == "python -m distill.save_logits store.path=T.zarr run.share=3/16"
    for word in ("--nnodes=2", "--nproc-per-node=8", "--rdzv-endpoint=node7:22345", "SIGUSR1 -m distill.train_student"):
        assert word in student, student


def test_what_a_job_needs_to_be_told_is_asked_for(bench: Bench) -> None:
    assert bench.run("student.sbatch", "data.path=D") == (2, "give run.dir=... among the arguments of the script\n")
    assert bench.run("teacher_share.sbatch", "data.path=D", SHARES="2", SLURM_ARRAY_TASK_ID="0")[0] == 2
    code, out = bench.run("teacher_share.sbatch", "store.path=T", SLURM_ARRAY_TASK_ID="0")
    assert code != 0 and "SHARES" in out
    assert bench.log == []


def interrupted(bench: Bench, script: str, *words: str, number: signal.Signals, **env: str) -> tuple[int, str]:
    """Runs a job to which Slurm sends a signal when its program is at work."""
    process = bench.start(script, *words, TICKS="400", **env)
    deadline = time.monotonic() + 30
    while not any(line.startswith("python") for line in bench.log):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)  # Past the stand-in's `trap`.
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    return process.returncode, out


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_student_that_is_told_to_stop_goes_back_into_the_queue(bench: Bench, number: signal.Signals) -> None:
    marker = bench.folder / "run" / "requeue"
    marker.parent.mkdir()
    marker.write_text("of an older stop")
    code, out = interrupted(bench, "student.sbatch", f"run.dir={marker.parent}", number=number, MARKER=str(marker))
    assert code == 75, out
    assert "stopped in good order: SIGUSR1, after step 7" in out
    assert bench.log[1:] == ["scontrol requeue 12345"]


def test_a_share_names_its_own_task_and_not_the_array(bench: Bench) -> None:
    words = ("data.path=D", f"store.path={bench.folder}/T.zarr/")
    marker = bench.folder / "T.zarr.share-3-of-16.requeue"
    env = {"SHARES": "16", "SLURM_ARRAY_JOB_ID": "900", "SLURM_ARRAY_TASK_ID": "3", "MARKER": str(marker)}
    code, out = interrupted(bench, "teacher_share.sbatch", *words, number=signal.SIGUSR1, **env)
    assert code == 75, out
    assert bench.log[1:] == ["scontrol requeue 900_3"]


def test_a_cancelled_job_stays_cancelled(bench: Bench) -> None:
    marker = bench.folder / "run" / "requeue"
    marker.parent.mkdir()
    words = (f"run.dir={marker.parent}",)
    interrupted(bench, "student.sbatch", *words, number=signal.SIGTERM, MARKER=str(marker), STATE="COMPLETING")
    assert len(bench.log) == 1


def test_failures_are_tried_again_a_few_times_and_wrong_usage_is_not(bench: Bench) -> None:
    run = bench.folder / "run"
    for attempt in (1, 2, 3):
        code, out = bench.run("student.sbatch", f"run.dir={run}", CODE="1")
        assert code == 1
        assert f"failed with exit code 1, {attempt} times" in out
    assert bench.log.count("scontrol requeue 12345") == 2
    assert bench.run("student.sbatch", f"run.dir={run}")[0] == 0
    assert not list(bench.folder.glob("slurm-failures-*"))
    assert bench.run("student.sbatch", f"run.dir={run}", CODE="2")[0] == 2
    assert bench.log.count("scontrol requeue 12345") == 2
