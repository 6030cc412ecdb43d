"""The command line of every program: arguments in, one checked configuration out, one clear message on failure.

    python -m distill.train_student data.path=DATA optim.lr=1e-3 student=tiny_vit_11m

The arguments are Hydra overrides. Hydra composes the files of `conf/` that they choose, and the result is merged into
the program's dataclasses, which hold the defaults. A key that they do not have is refused by name wherever it came
from: command line, `+key=`, or a file.

Exit codes: 0 done; 1 a check failed or the work could not be done; 2 wrong usage; 75 (EX_TEMPFAIL) stopped in good
order by a signal or a time limit: the same command continues.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from distill.config import former
from distill.config.help import help_text
from distill.config.settings import Setting, list_groups
from distill.errors import DistillError, Stopped, UsageError
from logitstore.untrusted import plain_output

C = TypeVar("C")

_PEER_IS_GONE = re.compile(r"Connection (closed|reset) by peer")
_RESUMABLE = ("save_logits", "train_student", "contract")
"""Programs that continue where they were stopped."""
STOPPED = 75
"""EX_TEMPFAIL of sysexits.h: try again later."""

_CONF = Path(__file__).parent.parent / "conf"


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
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    main, name, dry_run = program.main, program.name, program.dry_run
    if {"--help", "-h"} & set(arguments):
        print(program_help(program))
        sys.exit(0)
    with exit_codes(resumable=name in _RESUMABLE):
        flags = {"--print-config", "--dry-run" if dry_run else ""} & set(arguments)
        config = load(name, program.schema, [argument for argument in arguments if argument not in flags])
        if "--print-config" in flags:
            print(to_yaml(config), end="")
        elif dry_run and "--dry-run" in flags:
            dry_run(config)
        else:
            main(config)


def program_help(program: Program[C]) -> str:
    """The text of `--help`."""
    composed = default_values(program.name, program.schema)
    choices = {group: (default, _choice_files(group, program.name)) for group, default in _choices(program.name)}
    return help_text(
        program.about, program.schema, choices={group: found for group, found in choices.items() if found[1]},
        values=composed, dry_run=program.dry_run is not None,
    )  # fmt: skip


@contextmanager
def exit_codes(*, resumable: bool = False) -> Iterator[None]:
    """Turns errors that a user can fix into one message on stderr and an exit code.

    **Arguments:** `resumable`: the same command, started again, resumes; an interruption says so.
    """
    with plain_output(), _exit_codes(resumable=resumable):
        yield


@contextmanager
def _exit_codes(*, resumable: bool) -> Iterator[None]:
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
        _fail("interrupted" + resumable * "; the same command resumes from what is written", code=130)


def _fail(message: str, *, code: int) -> None:
    rank = f"[rank {os.environ['RANK']}] " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    print(f"{rank}error: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def load(name: str, schema: type[C], arguments: Sequence[str], *, values: Mapping[str, Any] | None = None) -> C:
    """Composes `conf/NAME.yaml` with the arguments into an instance of a dataclass.

    **Arguments:** `values`: settings by dotted name, applied after the arguments.

    **Raises:** `UsageError` that names the key, for anything unknown or of the wrong type.
    """
    arguments, folders = _config_dirs(arguments)
    overrides = [
        _parsable(_override(argument, arguments, name=name, schema=schema, folders=folders), argument)
        for argument in arguments
    ]
    if folders:
        overrides.append("hydra.searchpath=[" + ",".join(f"file://{folder}" for folder in folders) + "]")
    try:
        config = OmegaConf.to_object(_composed(name, schema, overrides, values=values))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UsageError(_explain(error)) from None
    assert isinstance(config, schema)
    return config


def default_values(name: str, schema: type[C]) -> dict[str, Any]:
    """The configuration without any argument, unchecked, as a nested dictionary."""
    values = OmegaConf.to_container(_composed(name, schema, []))
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _composed(
    name: str, schema: type[C], overrides: list[str], *, values: Mapping[str, Any] | None = None
) -> DictConfig:
    with initialize_config_module("distill.conf", version_base="1.3"):
        composed = compose(name, overrides=overrides)
    for key, value in (values or {}).items():
        OmegaConf.update(composed, key, value, force_add=True)
    merged = OmegaConf.merge(OmegaConf.structured(schema), composed)
    assert isinstance(merged, DictConfig)
    return merged


def _override(argument: str, arguments: list[str], *, name: str, schema: type[C], folders: list[Path]) -> str:
    """An argument as Hydra takes it. **Raises:** `UsageError` for a key that the program does not take."""
    if argument.startswith("-") or ("=" not in argument.lstrip("+~") and not argument.startswith("~")):
        raise UsageError(f"{argument!r} is not a setting: settings are KEY=VALUE, and --help lists the options")
    key, _, value = argument.lstrip("+~").partition("=")
    if not key:
        raise UsageError(f"{argument!r} is not a setting: settings are KEY=VALUE, and --help lists them")
    if key == "experiment":
        recipe = _CONF / "experiment" / f"{value}.yaml"
        if recipe.is_file() and not _is_for(recipe, name):
            raise UsageError(f"{argument} is a recipe of another program: {recipe} says of which")
    if "@" in key or any((folder / key).is_dir() for folder in (_CONF, *folders)):
        if not value or value == "null" or value[0] in "{[":
            raise UsageError(f"{argument}: choose one of the files of conf/{key.split('@')[0]}; --help lists them")
        return argument  # A choice of a file.
    if reason := former.removed(key, value):
        raise UsageError(reason)
    groups = {group.name: group for group in list_groups(schema)}
    settings = {setting.key: setting for group in groups.values() for setting in group.settings}
    group = groups.get(key.split(".")[0])
    if group and group.optional and not any(re.match(rf"(\w+@)?{group.name}=", each) for each in arguments):
        choice = next(each for each, _ in _choices(name) if each.split("@")[-1] == group.name)
        raise UsageError(f"{key}: choose a file first, {choice}=CHOICE; --help lists the choices")
    setting = _find(key, settings)
    if setting and not setting.taken:
        raise UsageError(f"{key}: distill.{name} has no use for this setting; --help lists those that it takes")
    if not setting and key not in groups:
        similar = difflib.get_close_matches(key, [each.key for each in settings.values() if each.taken], n=1)
        hint = f", do you mean {similar[0]}?" if similar else ":"
        raise UsageError(f"configuration: {key}: there is no such setting{hint} --help lists them")
    if setting and setting.text and not argument.startswith("~"):
        argument = argument.partition("=")[0] + "=" + _literal(value)
    # The files of conf/ hold no defaults, so most keys are not in them: `++` adds what is not there. What a choice
    # fills, such as `view`, has its keys from the chosen file, and Hydra refuses others.
    filled_by_choice = setting is not None and setting.open and (_CONF / setting.key).is_dir()
    return argument if argument[0] in "+~" or filled_by_choice else f"++{argument}"


def _parsable(override: str, argument: str) -> str:
    """The override. **Raises:** `UsageError` where it is none to Hydra."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
    except (HydraException, ValueError):
        parsed = None
    if parsed is None or parsed.is_sweep_override():
        raise UsageError(
            f"{argument!r} cannot be read: a value is a number, true, false, null, a word, a list [a, b] or a mapping "
            "{a: 1}; text with other characters stands in quotes, KEY=\"'a, b'\""
        )
    return override


def _literal(value: str) -> str:
    """The value of a setting that is text, as Hydra takes it character for character: paths have commas, brackets and
    letters that its grammar has other uses for. `~/` is the home folder, as in a shell; `null` stays none, and what is
    quoted or holds an interpolation is Hydra's."""
    if value in ("", "null") or value[0] in "'\"" or "${" in value:
        return value
    if value.startswith("~"):
        with suppress(RuntimeError):  # There is no such user.
            value = str(Path(value).expanduser())
    escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", value)
    backslashes = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{backslashes * chr(92)}'"


def _find(key: str, settings: dict[str, Setting]) -> Setting | None:
    """The setting of that key, or the dictionary that the key lies in."""
    if key in settings:
        return settings[key]
    parts = key.split(".")
    above = (settings.get(".".join(parts[:length])) for length in range(1, len(parts)))
    return next((setting for setting in above if setting and setting.open), None)


def _config_dirs(arguments: Sequence[str]) -> tuple[list[str], list[Path]]:
    """The arguments without `--config-dir`, and the folders that it names."""
    others, folders = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if argument.split("=")[0] != "--config-dir":
            others.append(argument)
            continue
        folder = Path(argument.split("=", 1)[1] if "=" in argument else next(remaining, ""))
        if not folder.is_dir():
            raise UsageError(f"--config-dir {folder}: there is no such folder")
        folders.append(folder.resolve())
    return others, folders


def _explain(error: Exception) -> str:
    """One line that names the key."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    lines = str(error if cause is error else cause).strip().splitlines()
    inner = ("full_key", "object_type", "reference_type")
    message = " ".join(line.strip() for line in lines if line.strip() and not any(name in line for name in inner))
    message = message.split(" Config search path:")[0]
    return f"configuration: {key}: {message}" if key else f"configuration: {message}"


def to_yaml(config: Any) -> str:
    """A configuration as YAML, as it is saved with a run."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _choices(name: str) -> list[tuple[str, str | None]]:
    """The groups of files that `conf/NAME.yaml` is composed of, and the default choice of each."""
    parts = yaml.safe_load((_CONF / f"{name}.yaml").read_text())["defaults"]
    return [next(iter(part.items())) for part in parts if isinstance(part, dict)]


def _choice_files(group: str, name: str) -> list[Path]:
    """The files that GROUP=CHOICE can pick for a program."""
    files = sorted((_CONF / group.split("@")[0]).glob("*.yaml"))
    return [path for path in files if group != "experiment" or _is_for(path, name)]


def _is_for(recipe: Path, name: str) -> bool:
    """Whether a file of conf/experiment is for this program: its header holds the command."""
    return f"-m distill.{name} " in recipe.read_text()
