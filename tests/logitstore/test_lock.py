"""Writers that are killed, and writers of one store at once: real processes, real SIGKILL."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import logitstore

PROGRAM = Path(__file__).with_name("write_blocks.py")


def start(path, mode):
    process = subprocess.Popen([sys.executable, PROGRAM, path, mode], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process):
    process.kill()
    process.wait()
    process.stdout.close()


def test_killed_writers_never_leave_a_wrong_block(make_store, tmp_path, make_spec, content):
    sizes = {"num_samples": 2000, "rows_per_block": 64, "num_epochs": 2}
    whole = content(make_store(name="whole.zarr", **sizes))
    path = tmp_path / "killed.zarr"
    logitstore.create(path, make_spec(**sizes), keys=np.arange(2000) * 7, labels=np.arange(2000) % 5 - 1)
    rng = random.Random(0)
    kills = 0
    for _ in range(7):
        process = start(path, "write")
        time.sleep(rng.uniform(0, 0.05))
        kills += process.poll() is None
        kill(process)
        part = content(path)
        assert part.items() <= whole.items()
    assert kills >= 3
    process = start(path, "write")
    assert process.wait(60) == 0
    process.stdout.close()
    assert content(path) == whole
    assert logitstore.check(path).ok


def test_a_second_run_is_refused_while_the_first_lives(make_store, rows_for):
    path = make_store(missing=((0, 0),))
    first = start(path, "hold")
    with pytest.raises(logitstore.StoreLocked, match=f"pid {first.pid} on host "):
        logitstore.writer(path)
    # A further process of the same run.
    with logitstore.writer(path, exclusive=False) as companion:
        companion.write(0, 0, **rows_for(companion.spec, 0, 0))
    kill(first)
    with logitstore.writer(path) as second:
        assert second.spec.num_samples == 20


def test_runs_of_other_blocks_share_a_store_and_whole_runs_wait(make_store, rows_for):
    path = make_store(missing=((0, 0), (1, 2)))
    code = "import sys, logitstore; logitstore.writer(sys.argv[1], blocks=eval(sys.argv[2]))"

    def refusal(blocks: str) -> str:
        return subprocess.run([sys.executable, "-c", code, path, blocks], capture_output=True, text=True).stderr

    with logitstore.writer(path, blocks=range(1, 3)) as writer:
        name = f"StoreLocked: {path} is being written by blocks 1..2: pid {os.getpid()} on host "
        for blocks in ("range(2, 3)", "range(0, 2)", "None"):
            assert name in refusal(blocks), blocks
        assert refusal("range(0, 1)") == ""
        writer.write(1, 2, **rows_for(writer.spec, 1, 2))
        with pytest.raises(logitstore.OutOfRange, match=r"for blocks 1\.\.2"):
            writer.write(0, 0, **rows_for(writer.spec, 0, 0))
    assert refusal("range(2, 3)") == ""
    with logitstore.writer(path):
        assert f"pid {os.getpid()} on host " in refusal("range(0, 1)")
    for blocks in (range(2, 4), range(0), range(0, 3, 2)):
        with pytest.raises(logitstore.OutOfRange):
            logitstore.writer(path, blocks=blocks)


def test_a_killed_run_frees_the_store_though_its_child_lives(make_store):
    path = make_store()
    first = start(path, "fork")
    kill(first)
    with logitstore.writer(path):
        pass


def test_two_writers_in_one_process(make_store):
    path = make_store()
    with logitstore.writer(path):
        with pytest.raises(logitstore.StoreLocked, match="this very process"):
            logitstore.writer(path)
        # Being refused must not have dropped the lock that the first one holds.
        code = "import sys, logitstore; logitstore.writer(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
        assert "StoreLocked" in done.stderr
    with logitstore.writer(path):
        pass
