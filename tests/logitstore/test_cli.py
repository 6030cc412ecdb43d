import json
import sys

import numpy as np
import pytest
import xxhash
from click.testing import CliRunner

import logitstore
from logitstore import open as open_store
from logitstore.cli import main

NAMES = [f"name of [{n}]" for n in range(30)]


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


@pytest.mark.parametrize("command", main.commands)
def test_help_has_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"  logitstore {command} " in result.stdout.partition("Example:")[2]
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


def test_show(make_store, rows_for, tmp_path, monkeypatch):
    keys = [f"dir/{n}ä.jpg".encode() for n in range(20)]
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    np.save(catalog / "key_offsets.npy", np.cumsum([0, *map(len, keys)]).astype(np.uint64))
    (catalog / "keys.bin").write_bytes(b"".join(keys))
    (catalog / "catalog.json").write_text('{"fingerprint": "f00d"}')
    monkeypatch.setattr(logitstore.Store, "keys", lambda self, row: [xxhash.xxh3_64_intdigest(keys[row])])
    data = {"class_names": list("vwxyz"), "fingerprint": "f00d"}
    path = make_store(encoding="float16", teacher={"class_names": NAMES}, data=data)
    facts = json.loads(run("show", path, "--epoch", 1, "--row", 12, "--data", tmp_path, "--json").stdout)
    assert facts["key"] == "dir/12ä.jpg"
    assert facts["key_hash"] == f"{xxhash.xxh3_64_intdigest(keys[12]):016x}"
    assert (facts["label"], facts["label_name"]) == (1, "w")
    written = rows_for(open_store(path).spec, 1, 1)
    assert facts["seed"] == int(written["seeds"][4])
    assert [entry["class"] for entry in facts["classes"]] == written["indices"][4].tolist()
    mass = sum(entry["probability"] for entry in facts["classes"]) + facts["tail_probability"]
    assert mass == pytest.approx(1, abs=1e-5)
    text = run("show", path, "--epoch", 1, "--row", 12, "--data", tmp_path, "--top", 2)
    assert text.exit_code == 0
    for part in ("dir/12ä.jpg", "label  1 w", NAMES[written["indices"][4, 0]], "3 more of the top-k", "tail"):
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
    same = make_store(name="same.zarr", data={"fingerprint": "f00d"})
    wrong = run("show", same, "--row", 0, "--data", tmp_path)
    assert wrong.exit_code == 1
    assert "the key of row 0 is not the one that the store was made with" in wrong.stderr
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
        (("stats", tmp_path / "nowhere"), "does not exist"),
        (("diff", path, tmp_path / "nowhere"), "does not exist"),
        (("grow", path, "--epochs", 1), "cannot shrink"),
        (("merge", tmp_path / "m.zarr", tmp_path / "nowhere"), "does not exist"),
        (("copy", path, tmp_path / "c.zarr", "--epochs", "7"), "epoch 7"),
        (("recode", path, tmp_path / "r.zarr", "--topk", 9), "has 5 classes per view"),
        (("repair", tmp_path), "not a logit store"),
        (("export", path, tmp_path / "x.npz"), "lacks blocks 0"),
        (("import-tinyvit", tmp_path, tmp_path / "i.zarr", "--classes", 9), "logits_topK_epochE"),
        (("plan", "--samples", 10, "--epochs", 1, "--topk", 5, "--classes", 4), "topk is 5"),
    ]:
        result = run(*args)
        assert result.exit_code == 1
        assert part in result.stderr
        assert result.stderr.count("\n") == 1
        assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "args",
    [
        ("show",),
        ("nonsense",),
        ("show", "x", "--row", "-1"),
        ("check", "x", "--fast"),
        ("copy", "x", "y", "--epochs", "3-1"),
        ("export", "x", "y.csv"),
        ("export", "x", "y.npz", "--rows", "5"),
        ("recode", "x", "y", "--encoding", "log9"),
        ("merge", "x"),
        ("plan", "--samples", "0", "--epochs", "1"),
    ],
)
def test_wrong_usage_is_exit_code_2(args):
    assert run(*args).exit_code == 2


def test_stats(make_store, rows_for, tmp_path):
    path = make_store(encoding="float16", data={"class_names": list("vwxyz")}, missing=((0, 1),))
    store = open_store(path)
    facts = json.loads(run("stats", path, "--json").stdout)
    probabilities, labels, top = [], [], []
    for epoch, block in np.argwhere(store.done()).tolist():
        rows = store.read(epoch=epoch, rows=store.spec.block_rows(block))
        probabilities.append(rows.dense().astype(np.float64))
        labels.append(store.labels(store.spec.block_rows(block)))
        top.append(rows.indices[:, 0])
    dense, label, first = np.concatenate(probabilities), np.concatenate(labels), np.concatenate(top)
    entropy = -(dense * np.log(dense)).sum(axis=1)
    assert facts["views"] == 32
    assert facts["entropy"]["mean"] == pytest.approx(entropy.mean(), rel=1e-4)
    assert facts["top1"]["mean"] == pytest.approx(dense.max(axis=1).mean(), rel=1e-4)
    kept = np.sort(dense, axis=1)[:, -5:].sum(axis=1)
    assert facts["kept_mass"]["mean"] == pytest.approx(kept.mean(), rel=1e-4)
    assert sum(facts["kept_mass"]["counts"]) == 32
    assert facts["kept_mass"]["counts"] == np.histogram(kept, np.linspace(0, 1, 21))[0].tolist()
    assert facts["labels"]["views"] == (label >= 0).sum()
    assert facts["labels"]["top1_agrees"] == (first == label)[label >= 0].sum()
    by_label = {entry["label"]: entry for entry in facts["labels"]["by_label"]}
    assert by_label[2]["views"] == (label == 2).sum()
    assert by_label[2]["top1_agrees"] == ((label == 2) & (first == 2)).sum()
    assert by_label[2]["name"] == "x"
    text = run("stats", path, "--plot", tmp_path / "s.png", "--blocks", 2)
    assert text.exit_code == 0, text.stderr
    assert "2 of 5 blocks" in text.stdout
    # Five folders are not the teacher's thirty classes: 0 % agreement would say nothing of the teacher.
    assert not facts["labels"]["comparable"] and "agreement means nothing" in text.stdout
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_stats_of_labels_that_are_the_teachers_classes(make_store):
    path = make_store(data={"class_names": [f"class {n}" for n in range(30)]})
    assert "most probable class is the label: " in run("stats", path).stdout


def test_stats_without_matplotlib_or_blocks(make_store, tmp_path, monkeypatch):
    path = make_store()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("stats", path, "--plot", tmp_path / "s.png")
    assert result.exit_code == 1
    assert "pip install matplotlib" in result.stderr
    for epoch in (0, 1):
        for block in range(3):
            (path / f"proofs/c/{epoch}/{block}").unlink()
    assert "has no block yet" in run("stats", path).stderr


def test_diff(make_store, tmp_path):
    one, other = make_store(name="one.zarr"), make_store(name="other.zarr")
    assert run("diff", one, other).exit_code == 0
    assert run("recode", one, tmp_path / "small.zarr", "--topk", 3).exit_code == 0
    result = run("diff", one, tmp_path / "small.zarr")
    assert result.exit_code == 1
    assert "spec: topk: A has 5, B has 3" in result.stdout
    logitstore.copy(one, tmp_path / "harmed.zarr")
    (tmp_path / "harmed.zarr/tail/c/0/1").unlink()
    harmed = run("diff", one, tmp_path / "harmed.zarr")  # Its markers are the same.
    assert (harmed.exit_code, "the file is missing" in harmed.stderr) == (1, True)
    (other / "proofs/c/1/0").unlink()
    facts = json.loads(run("diff", one, other, "--json").stdout)
    assert (facts["only_in_a"], facts["blocks_equal"], facts["same"]) == (1, 5, False)
    facts = json.loads(run("diff", one, tmp_path / "small.zarr", "--json").stdout)
    assert (facts["blocks_differing"], facts["seeds_differing"], facts["top1_differing"]) == (6, 0, 0)
    a, b = (open_store(p).read(epoch=1, rows=slice(None)).dense().astype(float) for p in (one, tmp_path / "small.zarr"))
    assert facts["kl_worst"] >= (a * np.log(a / b)).sum(axis=1).max() * (1 - 1e-6)
    assert run("diff", one, make_store(name="more.zarr", num_classes=31)).exit_code == 1


def test_repair(make_store):
    path = make_store()
    (path / "tail/c/0/1").unlink()
    dry = run("repair", path, "--dry-run")
    assert dry.exit_code == 0
    assert "epoch 0, block 1: would be dropped" in dry.stdout
    facts = json.loads(run("repair", path, "--json").stdout)
    assert facts["dropped"] == [[0, 1]]
    assert not open_store(path).done()[0, 1]
    (path / "samples/keys/c/0").unlink()
    assert run("repair", path).exit_code == 1


def test_plan_is_what_a_store_costs(make_store, make_spec):
    """Files exactly; bytes for a store of the measured kind within the table's own precision."""
    sizes = {"num_samples": 5000, "rows_per_block": 2048, "num_epochs": 2}
    path = make_store(**sizes)
    words = ["--samples", 5000, "--epochs", 2, "--topk", 5, "--classes", 30, "--rows-per-block", 2048]
    facts = json.loads(run("plan", *words, "--json", "--images-per-s", 100, "--gpus", 4).stdout)
    found = [p for p in path.rglob("*") if p.name != "writer.lock"]
    assert facts["files"] == sum(p.is_file() for p in found)
    assert facts["folders"] == sum(p.is_dir() for p in found) - 1  # Without the group `samples`.
    assert facts["gpu_hours"] == pytest.approx(10_000 / 100 / 3600)
    assert facts["hours"] == pytest.approx(facts["gpu_hours"] / 4)
    table = json.loads(run("plan", "--samples", 4096, "--epochs", 1, "--topk", 100, "--json").stdout)
    assert table["bytes_per_view"] == pytest.approx(127.7)
    assert run("plan", *words).exit_code == 0


def test_plan_of_small_blocks_is_what_they_cost(make_store):
    """The same views in small and in large blocks: the difference is what `plan` says it is, within a third."""
    stored, planned = {}, {}
    for rows in (512, 4096):
        path = make_store(name=f"{rows}.zarr", num_samples=4096, rows_per_block=rows, num_epochs=1)
        stored[rows] = json.loads(run("info", path, "--json").stdout)["bytes_per_view"]
        words = ["--samples", 4096, "--epochs", 1, "--topk", 5, "--classes", 30, "--rows-per-block", rows]
        planned[rows] = json.loads(run("plan", *words, "--json").stdout)["bytes_per_view"]
    assert planned[512] - planned[4096] == pytest.approx(stored[512] - stored[4096], rel=1 / 3)


def test_export_and_import(make_store, tmp_path):
    path = make_store()
    assert run("export", path, tmp_path / "v.jsonl", "--rows", "0:3").stdout == f"{tmp_path / 'v.jsonl'}: 3 views\n"
    folder = tmp_path / "logits" / "logits_top2_epoch0"
    folder.mkdir(parents=True)
    (folder / "rank0-keys.txt").write_text("a\n")
    (folder / "rank0-values.bin").write_bytes(np.array([(1, [3, 4], [0.5, 0.25])], "<i4,(2,)<i2,(2,)<f2").tobytes())
    done = run("import-tinyvit", tmp_path / "logits", tmp_path / "i.zarr", "--classes", 9)
    assert "1 views of 1 samples in 1 epochs" in done.stdout
    assert "replayable" in run("info", tmp_path / "i.zarr").stdout


def test_merge_grow_and_copy(make_store, tmp_path):
    a, b = make_store(name="a.zarr", missing=((0, 0),)), make_store(name="b.zarr", missing=((1, 1),))
    assert "6 blocks written" in run("merge", tmp_path / "m.zarr", a, b).stdout
    assert "0 blocks written, 5 were there" in run("merge", tmp_path / "m.zarr", a).stdout
    assert "3 epochs, 1 of them new" in run("grow", tmp_path / "m.zarr", "--epochs", 3).stdout
    facts = json.loads(run("copy", tmp_path / "m.zarr", tmp_path / "c.zarr", "--epochs", "0-1", "--json").stdout)
    assert facts["blocks_verified"] == 6
