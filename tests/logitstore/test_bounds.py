"""What a store claims is held against bounds, and against its files, before memory or time goes into it."""

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import logitstore
from logitstore.cli import main
from logitstore.format.identity import Identity
from logitstore.format.layout import documents, json_checksum

COMMANDS = [
    ("info",), ("show", "--row", "0"), ("check",), ("stats",), ("diff", "{}"), ("repair", "--dry-run"),
    ("export", "{}.npz"), ("copy", "{}.new"), ("recode", "{}.new", "--topk", "1"),
]  # fmt: skip
TOO_LARGE: list[dict[str, Any]] = [
    {"topk": 60_000, "num_classes": 65_000, "rows_per_block": 4096},
    {"num_samples": 10**15},
    {"num_epochs": 20_000_000},
    {"rows_per_block": 2**40},
    {"rows_per_block": 2**25, "topk": 30},
    {"num_classes": 2**32 - 1},
    {"tail_groups": 30, "num_classes": 2**24},
    {"num_samples": 2**33, "num_epochs": 4000, "rows_per_block": 1},
]
CLAIMS: list[dict[str, Any]] = [
    {"num_samples": 2**33, "rows_per_block": 2**22},
    {"num_epochs": 4096},
    {"num_samples": 4096 * 8000, "topk": 8192, "num_classes": 10_000, "rows_per_block": 4096},
    {"num_classes": 2**24},
    {"tail_groups": 4, "num_classes": 2**24},
]
"""Within the bounds, and not what the files hold."""


def forge(path: Path, **claims: Any) -> None:
    """Lets a store's metadata claim other sizes, with good checksums."""
    root = json.loads((path / "zarr.json").read_text())
    attributes = root["attributes"]
    attributes["spec"].update(claims)
    del attributes["crc32c"]
    attributes["crc32c"] = json_checksum(attributes)
    (path / "zarr.json").write_text(json.dumps(root))
    try:
        spec = logitstore.StoreSpec.from_json(attributes["spec"])
    except logitstore.StoreError:
        return
    for key, document in documents(spec, Identity.of(spec, store_id=1)).items():
        if key != "zarr.json":
            (path / key).parent.mkdir(exist_ok=True, parents=True)
            (path / key).write_text(json.dumps(document))


@pytest.mark.parametrize("claims", [*TOO_LARGE, *CLAIMS], ids=str)
def test_no_command_believes_a_claim(make_store: Callable[..., Path], claims: dict[str, Any]) -> None:
    path = make_store()
    forge(path, **claims)
    for command in COMMANDS:
        tracemalloc.start()
        began = time.monotonic()
        done = CliRunner().invoke(main, [command[0], str(path), *(word.format(path) for word in command[1:])])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
        # More epochs than there are is what a store that grew says, so the rows that are there are read.
        harmless = command[0] in ("info", "diff") if claims in CLAIMS else False
        harmless |= "num_epochs" in claims and claims in CLAIMS and command[0] != "check"
        assert done.exit_code == 1 or harmless, (command, done.output[:500])
        assert peak < 10**9, command
        assert time.monotonic() - began < 10, command


@pytest.mark.parametrize("claims", TOO_LARGE, ids=str)
def test_no_store_is_made_that_could_not_be_read(tmp_path: Path, claims: dict[str, Any]) -> None:
    sizes = {"num_samples": 20, "num_epochs": 2, "num_classes": 30, "topk": 5, "rows_per_block": 8, **claims}
    with pytest.raises(logitstore.SpecError):
        logitstore.StoreSpec(**sizes)


def test_the_bounds_leave_room_for_the_largest_runs() -> None:
    largest: list[dict[str, Any]] = [
        {"num_samples": 14_200_000, "num_epochs": 90, "num_classes": 21_841, "topk": 100},
        {"num_samples": 1_420_000_000, "num_epochs": 90, "num_classes": 21_841, "topk": 100, "rows_per_block": 65_536},
        {"num_samples": 1_281_167, "num_epochs": 300, "num_classes": 1000, "topk": 1000},
        {"num_samples": 14_200_000, "num_epochs": 10, "num_classes": 21_841, "topk": 21_841, "rows_per_block": 1024},
    ]
    for sizes in largest:
        logitstore.StoreSpec(**sizes)


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a": ' * 10**5, " " * (40 * 2**20), '{"attributes": {"format": NaN}}'])
def test_metadata_that_is_a_bomb(make_store: Callable[..., Path], text: str) -> None:
    path = make_store()
    (path / "zarr.json").write_text(text)
    began = time.monotonic()
    with pytest.raises(logitstore.NotAStore):
        logitstore.open(path)
    assert time.monotonic() - began < 10


def test_labels_out_of_range_are_noticed(make_store: Callable[..., Path], tmp_path: Path) -> None:
    path, other = make_store(), tmp_path / "other.zarr"
    spec = logitstore.open(path).spec
    labels = np.arange(20)
    labels[3] = 2**30
    logitstore.create(other, spec, keys=np.arange(20), labels=labels)
    for command in (["show", "--row", "3"], ["check"], ["stats"]):
        done = CliRunner().invoke(main, [command[0], str(other), *command[1:]])
        assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
