"""Each default stands in one place, with its meaning, and `--help` and docs/settings.md show it."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import distill.config
from distill.config import StudentConfig, TeacherConfig, command
from distill.config.help import show
from distill.config.settings import default_of, list_groups, meanings
from distill.errors import UsageError
from scripts.dev import make_settings_page
from tests.programs import ROOT, SCHEMAS

CONF = ROOT / "conf"
MINIMAL = {
    "save_logits": ["data.path=x", "store.path=y"],
    "train_student": ["data.path=x", "run.dir=y"],
    "contract": ["data.path=x", "store.path=y", "run.dir=z", "limits.params=1e6"],
    "evaluate": ["data.val_path=x", "run.dir=y"],
    "export": ["run.dir=y"],
    "transfer": ["data.path=x", "data.val_path=v", "run.dir=y", "out=o"],
    "verify_logits": ["data.path=x", "store.path=y"],
    "gallery": ["store.path=x", "out=o.html"],
}


@pytest.mark.parametrize("program", SCHEMAS)
def test_a_programs_file_holds_its_choices_and_no_setting(program: str) -> None:
    assert list(yaml.safe_load((CONF / f"{program}.yaml").read_text())) == ["defaults"]


@pytest.mark.parametrize(
    ("path", "schema"),
    [(path, StudentConfig) for path in sorted((CONF / "student").glob("*.yaml"))]
    + [(path, TeacherConfig) for path in sorted((CONF / "teacher").glob("*.yaml"))],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_a_choice_repeats_no_default(path: Path, schema: type) -> None:
    """But for what names the choice. Files of conf/view are whole: they go into a store's spec as they are."""
    defaults = {field.name: default_of(field) for field in fields(schema)}
    values = yaml.safe_load(path.read_text())
    assert values.keys() <= defaults.keys()
    assert [key for key in values if values[key] == defaults[key] and key not in ("name", "kind")] == []


@pytest.mark.parametrize("program", SCHEMAS)
def test_every_setting_has_a_meaning_and_stands_in_the_help(program: str) -> None:
    groups = list_groups(SCHEMAS[program])
    settings = [setting for group in groups for setting in group.settings]
    assert [setting.key for setting in settings if not setting.meaning] == []
    assert [group.name for group in groups if group.name and not group.meaning] == []
    text = command.program_help(importlib.import_module(f"distill.{program}").PROGRAM)
    assert max(map(len, text.splitlines())) <= 120
    first_words = {line.split()[0] for line in text.splitlines() if line.startswith("  ") and line.strip()}
    assert {setting.key for setting in settings if setting.taken} <= first_words
    assert not {setting.key for setting in settings if not setting.taken} & first_words


def test_a_meaning_is_the_string_under_the_field() -> None:
    for name, config in vars(distill.config).items():
        if not is_dataclass(config) or not isinstance(config, type):
            continue
        found = meanings(config)
        assert set(found) <= {"", *(field.name for field in fields(config))}, name
        source = " ".join(inspect.getsource(config).split())
        assert all(f'"""{text}"""' in source for text in found.values() if text), name


@pytest.mark.parametrize("program", SCHEMAS)
def test_defaults_shown_are_those_that_hold(program: str) -> None:
    schema = SCHEMAS[program]
    shown = {
        setting.key: setting.default
        for group in list_groups(schema, command.default_values(program, schema))
        for setting in group.settings
        if not group.optional
    }
    given = {word.split("=")[0] for word in MINIMAL[program]}
    config = command.load(program, schema, MINIMAL[program])
    for key, default in shown.items():
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        assert key in given or value == default, key


@pytest.mark.parametrize("program", SCHEMAS)
def test_every_setting_can_be_given_as_it_is_shown(program: str) -> None:
    schema = SCHEMAS[program]
    words = list(MINIMAL[program])
    for group in list_groups(schema, command.default_values(program, schema)):
        for setting in group.settings:
            if setting.taken and not setting.open and not group.optional and setting.default is not None:
                words.append(f"{setting.key}={show(setting.default)}")
    expected = command.to_yaml(command.load(program, schema, MINIMAL[program]))
    assert command.to_yaml(command.load(program, schema, words)) == expected


@pytest.mark.parametrize(
    ("program", "word", "said"),
    [
        ("train_student", "optim.lrr=1", r"optim\.lrr: there is no such setting, do you mean optim\.lr\?"),
        ("train_student", "+optim.lrr=1", r"optim\.lrr: there is no such setting"),
        ("train_student", "~optim.lrr", r"optim\.lrr: there is no such setting"),
        ("train_student", "qwerty=1", r"qwerty: there is no such setting: --help"),
        ("train_student", "optim.lr.x=1", r"optim\.lr\.x: there is no such setting"),
        ("train_student", "optim={lrr: 1}", r"optim\.lrr"),
        ("train_student", "view.flpi=1", "view.flpi"),
        ("train_student", "compute.compile_backend=aot_eager", r"compute\.compile_backend was removed"),
        ("evaluate", "run.keep=3", r"run\.keep: distill\.evaluate has no use for this setting"),
        ("evaluate", "data.path=x", r"data\.path: distill\.evaluate has no use"),
        ("contract", "+train.label_smoothing=0.1", r"train\.label_smoothing: distill\.contract has no use"),
        ("evaluate", "teacher.weights=f", r"teacher\.weights: choose a file first, teacher=CHOICE"),
        ("evaluate", "against.weights=f", r"against\.weights: choose a file first, teacher@against=CHOICE"),
    ],
)
def test_what_a_program_does_not_take_is_refused(program: str, word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        command.load(program, SCHEMAS[program], [*MINIMAL[program], word])


def test_settings_inside_a_choice_and_beside_it() -> None:
    words = [*MINIMAL["evaluate"], "teacher@against=tiny_vit", "against.weights=f"]
    against = command.load("evaluate", SCHEMAS["evaluate"], words).against
    assert (against.kind, against.weights, against.num_classes) == ("tiny_vit", "f", None)
    words = [*MINIMAL["train_student"], "view=fashion", "+view.mix={mixup_alpha: 0.8}", "view.flip=0.1"]
    view = command.load("train_student", SCHEMAS["train_student"], words).view
    assert (view["mix"], view["flip"]) == ({"mixup_alpha": 0.8}, 0.1)
    words = [*MINIMAL["transfer"], "finetune.settings={train.epochs: 3}"]
    finetune = command.load("transfer", SCHEMAS["transfer"], words).finetune
    assert finetune.all()["train.epochs"] == 3 and finetune.all()["optim.layer_decay"] == 0.8


def test_the_settings_page_is_fresh() -> None:
    assert make_settings_page.make() == make_settings_page.TARGET.read_text(encoding="utf-8"), (
        "run scripts/dev/make_settings_page.py"
    )


def test_the_help_of_the_settings_needs_no_torch() -> None:
    code = (
        "import sys; from distill import config; from distill.config import command; "
        "program = command.Program(print, 'train_student', schema=config.TrainStudentConfig, about=''); "
        "command.program_help(program); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
