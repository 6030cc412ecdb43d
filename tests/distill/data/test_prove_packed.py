"""`scripts/prove/packed.py` with few corruptions."""

from pathlib import Path

from click.testing import CliRunner

from scripts.prove.packed import main


def test_nothing_is_silently_wrong(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(tmp_path / "work"), "--corruptions", "40", "--seed", "3"])
    assert done.exit_code == 0, done.output
    assert "nothing was silently wrong" in done.output
