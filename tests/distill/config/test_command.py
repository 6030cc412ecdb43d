from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distill.config import TrainStudentConfig
from distill.config.command import load
from distill.errors import DistillError, UsageError
from tests.programs import call


def loaded(*arguments: str) -> TrainStudentConfig:
    required = ("student=tiny_vit_5m", "data.path=x", "run.dir=y")
    return load("train_student", TrainStudentConfig, [*required, *arguments])


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@example("a,b")
@example("photos (2024)/[new] #1 & more=x")
@example("größe/木")
@example("it's \\'here\\")
@example("1e5")
@example(" x")
def test_text_is_taken_as_it_stands(text: str) -> None:
    if text[0] not in "'\"~" and "${" not in text and text != "null":
        assert loaded(f"data.path={text}").data.path == text


def test_text_that_means_more_than_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    assert loaded("data.val_path=~/a,b").data.val_path == "/home/me/a,b"
    assert loaded("data.val_path=~no_such_user/a").data.val_path == "~no_such_user/a"
    assert loaded("data.val_path='a,b'").data.val_path == "a,b"
    assert loaded("data.val_path=${oc.env:DATA}/b").data.val_path == "/data/b"
    assert loaded("data.val_path=null").data.val_path is None
    assert loaded("++data.val_path=a(b").data.val_path == "a(b"


@pytest.mark.parametrize(
    "argument", ["train.epochs=(", "optim.lr=[", "train.epochs=1,2", "train.epochs=ä", "student=é(", "=3", "++=3", "x"]
)
def test_what_cannot_be_read_has_a_message_of_ours(argument: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(argument)
    message = str(caught.value)
    assert message.startswith(repr(argument))
    assert "is not a setting" in message or "cannot be read" in message
    assert "hydra" not in message.lower()


def test_a_folder_with_every_character_is_opened(tmp_path: Path) -> None:
    """The path arrives at the program: it says that there is no data set there."""
    folder = tmp_path / "größe (1), [a]=b #c & d"
    with pytest.raises(DistillError, match="no data set") as caught:
        call("train_student", ["student=tiny_vit_5m", f"data.path={folder}", f"run.dir={tmp_path / 'r'}"])
    assert str(folder) in str(caught.value)
