"""The accelerate configurations are what accelerate's own parser takes, and say what their names promise."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType

FOLDER = Path(__file__).parent.parent / "scripts" / "accelerate"
EXPECTED = {
    "one_node": (DistributedType.MULTI_GPU, 1, 8),
    "four_nodes": (DistributedType.MULTI_GPU, 4, 32),
    "cpu": (DistributedType.NO, 1, 1),
}


def test_every_configuration_is_expected() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_what_is_meant(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    config = load_config_from_file(str(path))
    kind, machines, processes = EXPECTED[name]
    assert (config.distributed_type, config.num_machines, config.num_processes) == (kind, machines, processes)
    assert config.use_cpu == (name == "cpu")
    assert set(yaml.safe_load(path.read_text())) <= set(vars(config))
    assert f"--config_file scripts/accelerate/{name}.yaml" in path.read_text()


def test_the_launcher_takes_them_from_the_command_line_in_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--machine_rank", "2", "--main_process_ip", "node7", "-m", "distill.train_student", "run.dir=x"]
    args = launch_command_parser().parse_args(["--config_file", str(FOLDER / "four_nodes.yaml"), *words])
    args, _, _ = _validate_launch_command(args)
    assert (args.num_machines, args.num_processes, args.machine_rank) == (4, 32, 2)
    assert (args.main_process_ip, int(args.main_process_port), args.rdzv_backend) == ("node7", 29500, "static")
    assert args.multi_gpu and not args.cpu
    assert args.training_script == "distill.train_student" and args.module
