import json

import numpy as np
import pytest
from click.testing import CliRunner

from logitstore.cli import main

NAMES = [f"name of [{n}]" for n in range(30)]


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.mark.parametrize("command", ["info", "show", "check"])
def test_help_has_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"logitstore {command} teacher.zarr" in result.stdout
    assert "--json" in result.stdout


def test_info(make_store):
    path = make_store(
        missing=((1, 2),),
        teacher={"name": "big", "weights_sha256": "abc"},
        data={"fingerprint": "f00"},
        view={"p": 0.5},
    )
    text = run("info", path)
    assert text.exit_code == 0
    for part in ("20 samples x 2 epochs", "5 of 30 classes", "5 of 6", "big", "abc", "f00", "view.p", "blocks 2"):
        assert part in text.stdout
    facts = json.loads(run("info", path, "--json").stdout)
    assert facts["spec"]["topk"] == 5
    assert facts["epochs_complete"] == [0]
    assert facts["views_committed"] == 36
    on_disk = sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and p.name != "writer.lock")
    assert facts["bytes_total"] == on_disk
    blocks = sum(facts["bytes_by_array"][name] for name in ("seeds", "indices", "logprobs", "tail", "proofs"))
    assert facts["bytes_per_view"] == pytest.approx(blocks / 36)


def test_info_of_an_empty_store(make_store):
    path = make_store(missing=tuple((e, b) for e in range(2) for b in range(3)))
    assert run("info", path).exit_code == 0
    assert json.loads(run("info", path, "--json").stdout)["bytes_per_view"] is None


def test_show(make_store, rows_for, tmp_path):
    keys = [f"dir/{n}ä.jpg".encode() for n in range(20)]
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    np.save(catalog / "key_offsets.npy", np.cumsum([0, *map(len, keys)]).astype(np.uint64))
    (catalog / "keys.bin").write_bytes(b"".join(keys))
    (catalog / "catalog.json").write_text('{"fingerprint": "f00d"}')
    data = {"class_names": list("vwxyz"), "fingerprint": "f00d"}
    path = make_store(encoding="float16", teacher={"class_names": NAMES}, data=data)
    facts = json.loads(run("show", path, "--epoch", 1, "--row", 12, "--data", tmp_path, "--json").stdout)
    assert facts["key"] == "dir/12ä.jpg"
    assert facts["key_hash"] == f"{84:016x}"
    assert (facts["label"], facts["label_name"]) == (1, "w")
    from logitstore import open as open_store

    written = rows_for(open_store(path).spec, 1, 1)
    assert facts["seed"] == int(written["seeds"][4])
    assert [entry["class"] for entry in facts["classes"]] == written["indices"][4].tolist()
    mass = sum(entry["probability"] for entry in facts["classes"]) + facts["tail_probability"]
    assert mass == pytest.approx(1, abs=1e-5)
    text = run("show", path, "--epoch", 1, "--row", 12, "--data", tmp_path, "--top", 2)
    assert text.exit_code == 0
    for part in ("dir/12ä.jpg", "label  1 w", NAMES[written["indices"][4, 0]], "3 more kept classes", "tail"):
        assert part in text.stdout


def test_show_without_names(make_store, tmp_path):
    path = make_store(teacher={"class_names": ["too", "few"]})
    facts = json.loads(run("show", path, "--row", 0, "--json").stdout)
    assert facts["key"] is None
    assert facts["label_name"] is None
    assert all(entry["name"] is None for entry in facts["classes"])
    gone = run("show", path, "--row", 0, "--data", tmp_path / "gone")
    assert gone.exit_code == 1
    assert "cannot be read as a catalog" in gone.stderr
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "catalog.json").write_text('{"fingerprint": "f00d"}')
    np.save(tmp_path / "catalog" / "key_offsets.npy", np.arange(100, dtype=np.uint64))
    (tmp_path / "catalog" / "keys.bin").write_bytes(b"x" * 100)
    other = run("show", path, "--row", 0, "--data", tmp_path)
    assert other.exit_code == 1
    assert "other data" in other.stderr
    assert "label  unknown" in run("show", path, "--row", 0).stdout


def test_check(make_store):
    path = make_store()
    assert run("check", path).exit_code == 0
    assert json.loads(run("check", path, "--json").stdout)["ok"] is True
    (path / "tail/c/0/1").unlink()
    result = run("check", path)
    assert result.exit_code == 1
    assert "damaged-block" in result.stdout
    assert "the file is missing" in result.stdout
    assert run("check", path, "--json").exit_code == 1


def test_what_cannot_be_done_is_one_message_and_exit_code_1(make_store, tmp_path):
    path = make_store(missing=((0, 0),))
    for args, part in [
        (("info", tmp_path / "nowhere"), "does not exist"),
        (("check", tmp_path), "not a logit store"),
        (("show", path, "--row", 99), "row 99"),
        (("show", path, "--row", 0, "--epoch", 5), "epoch 5"),
        (("show", path, "--row", 0), "lacks blocks 0"),
    ]:
        result = run(*args)
        assert result.exit_code == 1
        assert part in result.stderr
        assert result.stderr.count("\n") == 1
        assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("args", [("show",), ("nonsense",), ("show", "x", "--row", "-1"), ("check", "x", "--fast")])
def test_wrong_usage_is_exit_code_2(args):
    assert run(*args).exit_code == 2
