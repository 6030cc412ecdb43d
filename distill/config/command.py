"""The command line of every program: overrides in, one checked configuration out, one clear message on failure.

    python -m distill.train_student data.path=DATA optim.lr=1e-3 student=tiny_vit_11m

The arguments are Hydra overrides over the YAML in `conf/`. The composed result is merged into the program's
dataclasses, so a key nobody declared is refused by name wherever it came from: command line, `+key=`, or a file.

Exit codes: 0 done; 1 a check failed or the work could not be done; 2 wrong usage; 75 (EX_TEMPFAIL) stopped in good
order by a signal or a time limit: the same command goes on.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distill.errors import DistillError, Stopped, UsageError

C = TypeVar("C")

_PEER_IS_GONE = re.compile(r"Connection (closed|reset) by peer")
_GO_ON = ("save_logits", "train_student", "contract")
"""Programs that go on where they were broken off."""
STOPPED = 75
"""EX_TEMPFAIL of sysexits.h: try again later."""

_CONF = Path(__file__).parent.parent / "conf"
_OPTIONS = """\
options:
  KEY=VALUE             set a configuration key; GROUP=CHOICE picks a file of conf/GROUP/
  --config-dir DIR      look for configuration files in DIR too (may be repeated)
  --print-config        print the configuration that would be used, and stop
  --dry-run             build everything, run a few steps, print memory and hours; writes nothing
  --help                this text"""


@dataclass(frozen=True, slots=True)
class Program(Generic[C]):
    """An entry module as a value: what `python -m distill.NAME` and `distill NAME` run."""

    main: Callable[[C], None]
    name: str
    """Of the module and of its `conf/NAME.yaml`."""
    schema: type[C] = field(kw_only=True)
    about: str | None = field(kw_only=True)
    """The help text, which opens with what the program does and holds an example."""
    dry_run: Callable[[C], None] | None = field(kw_only=True, default=None)
    """Called instead of `main` where `--dry-run` is among the arguments."""


def run_program(program: Program[C], arguments: Sequence[str] | None = None) -> None:
    """Composes `conf/NAME.yaml` with the arguments (of the command line by default), calls `main(config)`, exits."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    main, name, dry_run = program.main, program.name, program.dry_run
    if {"--help", "-h"} & set(words):
        options = [line for line in _OPTIONS.splitlines() if dry_run or "--dry-run" not in line]
        print("\n".join([(program.about or "").strip(), "", *options, "", _choices(name)]))
        sys.exit(0)
    with exit_codes(goes_on=name in _GO_ON):
        flags = {"--print-config", "--dry-run" if dry_run else ""} & set(words)
        config = load(name, program.schema, [word for word in words if word not in flags])
        if "--print-config" in flags:
            print(to_yaml(config), end="")
        elif dry_run and "--dry-run" in flags:
            dry_run(config)
        else:
            main(config)


@contextmanager
def exit_codes(*, goes_on: bool = False) -> Iterator[None]:
    """Turns errors that a user can mend into one message on stderr and an exit code.

    **Arguments:** `goes_on`: the same command, started again, goes on; whoever interrupts it is told.
    """
    import logitstore
    from distill import models

    try:
        yield
    except UsageError as error:
        _fail(str(error), code=2)
    except (DistillError, logitstore.StoreError, models.ModelError, models.WeightsError) as error:
        _fail(str(error), code=1)
    except RuntimeError as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and _PEER_IS_GONE.search(str(error)):
            _fail("another process of the run has ended; the reason is in its message", code=1)
        raise
    except Stopped as stop:
        if os.environ.get("RANK", "0") == "0":
            print(f"stopped: {stop}", file=sys.stderr, flush=True)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        _fail("interrupted" + goes_on * "; the same command goes on from what is written", code=130)


def _fail(message: str, *, code: int) -> None:
    rank = f"[rank {os.environ['RANK']}] " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    print(f"{rank}error: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def load(name: str, schema: type[C], overrides: Sequence[str], *, values: Mapping[str, Any] | None = None) -> C:
    """Composes `conf/NAME.yaml` with overrides into an instance of a dataclass.

    **Arguments:** `values`: settings by dotted name, over the overrides: for programs that have them as values.

    **Raises:** `UsageError` that names the key, for anything unknown or of the wrong type.
    """
    words, folders = _config_dirs(overrides)
    for word in words:
        if word.startswith("-") or ("=" not in word.lstrip("+~") and not word.startswith("~")):
            raise UsageError(f"{word!r} is not a setting: settings are KEY=VALUE, and --help lists the options")
        recipe = _CONF / "experiment" / f"{word.removeprefix('experiment=')}.yaml"
        if word.startswith("experiment=") and recipe.is_file() and not _is_for(recipe, name):
            raise UsageError(f"{word} is a recipe of another program: {recipe} says of which")
    if folders:
        words.append("hydra.searchpath=[" + ",".join(f"file://{folder}" for folder in folders) + "]")
    try:
        with initialize_config_module("distill.conf", version_base="1.3"):
            composed = compose(name, overrides=words)
        for key, value in (values or {}).items():
            OmegaConf.update(composed, key, value, force_add=True)
        merged = OmegaConf.merge(OmegaConf.structured(schema), composed)
        config = OmegaConf.to_object(merged)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(_explain(error)) from None
    assert isinstance(config, schema)
    return config


def _config_dirs(overrides: Sequence[str]) -> tuple[list[str], list[Path]]:
    words, folders = [], []
    rest = iter(overrides)
    for word in rest:
        if word.split("=")[0] != "--config-dir":
            words.append(word)
            continue
        folder = Path(word.split("=", 1)[1] if "=" in word else next(rest, ""))
        if not folder.is_dir():
            raise UsageError(f"--config-dir {folder}: there is no such folder")
        folders.append(folder.resolve())
    return words, folders


def _explain(error: Exception) -> str:
    """One line that names the key."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    text = str(error if cause is error else cause).strip().splitlines()
    inner = ("full_key", "object_type", "reference_type")
    message = " ".join(line.strip() for line in text if line.strip() and not any(word in line for word in inner))
    message = message.split(" Config search path:")[0]
    return f"configuration: {key}: {message}" if key else f"configuration: {message}"


def to_yaml(config: Any) -> str:
    """A configuration as YAML, as it is saved with a run."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _choices(name: str) -> str:
    """The files that GROUP=CHOICE can pick, and the program's own configuration file."""
    lines = ["choices:"]
    for group in sorted(path for path in _CONF.iterdir() if path.is_dir() and path.name != "__pycache__"):
        files = [path for path in sorted(group.glob("*.yaml")) if group.name != "experiment" or _is_for(path, name)]
        first, names = f"  {group.name + '=':<21} ", ", ".join(path.stem for path in files)
        if files:
            lines += textwrap.wrap(names, width=118, initial_indent=first, subsequent_indent=" " * len(first))
    return "\n".join([*lines, "", f"settings (conf/{name}.yaml):", (_CONF / f"{name}.yaml").read_text().rstrip()])


def _is_for(recipe: Path, name: str) -> bool:
    """Whether a file of conf/experiment is for this program: its header holds the command."""
    return f"-m distill.{name} " in recipe.read_text()
