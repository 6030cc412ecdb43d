"""Export of a run and of published weights: files that answer alike, cards that say where they come from."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import timm
import torch
from markdown_it import MarkdownIt

import logitstore
from distill import models, provenance
from distill.config import ExportConfig
from distill.config.command import load
from distill.data.catalog import Catalog
from distill.errors import DistillError, UsageError
from distill.exporting.model_card import model_card
from distill.exporting.source import open_source
from distill.models.weights.class_maps import synset_ids
from distill.models.weights.tensor_files import file_sha256
from tests.conftest import TINY
from tests.programs import call, student_arguments, teacher_arguments


@pytest.fixture(scope="module")
def run_dir(data_path: Path, teacher_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student distilled for two steps, and scored."""
    folder = tmp_path_factory.mktemp("exported")
    call("save_logits", teacher_arguments(data_path, teacher_weights, folder / "t.zarr"))
    more = [f"store.path={folder / 't.zarr'}", f"data.val_path={data_path}", "train.epochs=1", "train.steps=2"]
    call("train_student", student_arguments(data_path, folder / "run", *more))
    return folder / "run"


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def student_logits(run_dir: Path, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = models.build_teacher(kind="tiny_vit", weights=run_dir / "student.safetensors").net(
            pixels
        )
    return logits


def test_onnx_of_a_run(run_dir: Path, pixels: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    call("export", [f"run.dir={run_dir}"])
    assert "onnxruntime agrees with torch: largest difference" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(run_dir / "student.onnx")
    (found,) = session.run(None, {"pixels": pixels.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), student_logits(run_dir, pixels), rtol=0, atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["class_names"]) == ["anchor", "bell", "cup"]
    assert "(batch, 3, 32, 32)" in (run_dir / "student.onnx.md").read_text()


def test_timm_of_a_run_by_the_cards_own_words(run_dir: Path, tmp_path: Path, pixels: torch.Tensor) -> None:
    out = tmp_path / "a.safetensors"
    call("export", [f"run.dir={run_dir}", "format=timm", f"out={out}"])
    line = re.search(r"^net = (timm\.create_model\(.*\))\.eval\(\)$", Path(f"{out}.md").read_text(), re.MULTILINE)
    assert line
    net = eval(line[1].replace("'a.safetensors'", repr(str(out))), {"timm": timm}).eval()
    with torch.no_grad():
        torch.testing.assert_close(net(pixels), student_logits(run_dir, pixels), rtol=0, atol=1e-5)
    with safetensors.safe_open(out, framework="pt") as file:
        assert file.metadata()["architecture"] == "tiny_vit_5m_224"


def test_card_says_where_a_distilled_student_comes_from(
    run_dir: Path, data_path: Path, teacher_weights: Path, tmp_path: Path, pixels: torch.Tensor
) -> None:
    out = tmp_path / "a.safetensors"
    call("export", [f"run.dir={run_dir}", "format=safetensors", "dtype=float16", f"out={out}"])
    card = Path(f"{out}.md").read_text()
    spec = logitstore.open(run_dir.parent / "t.zarr").spec
    summary = json.loads((run_dir / "summary.json").read_text())
    for fact in (
        f"| data: fingerprint | {spec.data['fingerprint']} |",
        f"| teacher: weights_sha256 | {file_sha256(teacher_weights)} |",
        "| store: topk | 2 |",
        f"| SHA-256 | {file_sha256(out)} |",
        f"| their SHA-256 | {file_sha256(run_dir / 'student.safetensors')} |",
        f"| top-1 % | {summary['top1']:.6g} |",
        f"| software: torch | {torch.__version__} |",
        "| image | 32 x 32 |",
        "  batch_size: 16\n",
    ):
        assert fact in card, fact
    assert re.search(r"\| store: fingerprint \| [0-9a-f]{32} \|", card)
    about = models.describe_weights(out)
    assert about["class_names"] == ["anchor", "bell", "cup"]
    assert json.loads(about["provenance"])["data"]["num_samples"] == 150
    again = models.build_teacher(kind="tiny_vit", weights=out)
    with torch.no_grad():
        torch.testing.assert_close(again.net(pixels), student_logits(run_dir, pixels), rtol=0, atol=0.01)
    call("export", [f"weights={out}", "format=safetensors", f"out={tmp_path / 'b.safetensors'}"])
    second = Path(f"{tmp_path / 'b.safetensors'}.md").read_text()
    assert spec.data["fingerprint"] in second  # the history travels with the file
    assert "None are recorded" in second


def test_a_student_of_labels_has_no_store_and_no_teacher(catalog: Catalog) -> None:
    record = provenance.student_record(catalog, None)
    assert set(record) == {"data", "software"}
    assert record["data"]["fingerprint"] == catalog.fingerprint


def test_a_head_and_windows_are_changed_on_the_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = models.build("tiny_vit", num_classes=21841, image_size=224, **{**TINY, "windows": [7, 7, 14, 7]})
    source, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    models.save_weights(net, source, metadata={"mean": "[0, 0, 0]", "std": "[1, 1, 1]"})
    words = [f"weights={source}", "format=safetensors", f"out={out}", "classes=imagenet_1k", "image_size=384"]
    call("export", words)
    about = models.describe_weights(out)
    assert (about["num_classes"], about["image_size"], about["config"]["windows"]) == (1000, 384, [12, 12, 24, 12])
    assert tuple(about["class_names"]) == synset_ids("imagenet_1k")
    card = Path(f"{out}.md").read_text()
    assert "head re-mapped from 21841 to 1000 classes by WordNet ids; 1 without a counterpart" in card
    assert r"resized to \[12, 12, 24, 12\] for 384 px" in card


def test_published_weights_are_exported_by_name(tmp_path: Path) -> None:
    net = models.build("tiny_vit_5m", num_classes=12)
    torch.save({"model": net.state_dict()}, tmp_path / "a.pth")
    words = [f"weights={tmp_path / 'a.pth'}", "format=timm", "model.name=tiny_vit_5m", "model.num_classes=12"]
    call("export", words)
    theirs = timm.create_model("tiny_vit_5m_224", num_classes=12, checkpoint_path=tmp_path / "a.timm.safetensors")
    assert torch.equal(theirs.state_dict()["head.fc.weight"], net.head.fc.weight)
    card = (tmp_path / "a.timm.safetensors.md").read_text()
    assert "The file does not record what it was trained on." in card
    assert "| parameters | 5." in card


def test_nothing_is_overwritten_unless_asked(run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    words = [f"run.dir={run_dir}", "format=safetensors", f"out={out}"]
    out.write_text("mine")
    with pytest.raises(DistillError, match=r"a\.safetensors exists and is not overwritten"):
        call("export", words)
    assert out.read_text() == "mine"
    call("export", [*words, "overwrite=true"])
    assert models.describe_weights(out)["num_classes"] == 3
    out.unlink()
    with pytest.raises(DistillError, match=r"a\.safetensors\.md exists"):
        call("export", words)


def test_wrong_requests_are_refused(run_dir: Path, tmp_path: Path) -> None:
    for words, message in (
        ([], "either run.dir=FOLDER or weights=FILE"),
        (["run.dir=a", "weights=b"], "either run.dir=FOLDER or weights=FILE"),
        (["run.dir=a", "format=tflite"], "format=tflite: choose one of onnx, timm, safetensors"),
        (["run.dir=a", "dtype=float16"], "ONNX files are written in float32"),
        (["run.dir=a", "classes=pets"], "classes=pets: choose one of imagenet_1k"),
        (["run.dir=a", "opset=9"], "opset=9: must be at least 18"),
    ):
        with pytest.raises(UsageError, match=message):
            call("export", words)
    with pytest.raises(DistillError, match=r"nowhere is not the folder of a run"):
        call("export", ["run.dir=nowhere"])
    with pytest.raises(DistillError, match="there is no folder"):
        call("export", [f"run.dir={run_dir}", f"out={tmp_path / 'no' / 'a.onnx'}"])
    with pytest.raises(models.WeightsError, match="no weights file at"):
        call("export", [f"weights={tmp_path / 'none.pth'}"])
    with pytest.raises(models.ModelError, match="has 3 classes, the map of classes starts from 21841"):
        call("export", [f"run.dir={run_dir}", "classes=imagenet_1k", f"out={tmp_path / 'a.onnx'}"])


def test_the_card_escapes_what_came_with_the_weights(run_dir: Path, tmp_path: Path) -> None:
    evil = "x\n\n<script>alert(1)</script> [click](javascript:alert(1)) `a` | b | <img src=x onerror=y> \\"
    source = replace(
        open_source(load("export", ExportConfig, [f"run.dir={run_dir}", "format=safetensors"])),
        history={"teacher": {"name": evil, evil: evil}, "data": {"a": [evil]}},
        scores={"top1": 1.0, evil: evil},
        changes=(evil,),
        run=f"a: 1\n```\n</code><script>\n````\n{evil}",
    )
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"x")
    page = model_card(source, path=out, format="safetensors", difference=None)
    html = MarkdownIt("commonmark").enable("table").render(page)
    assert "<script" not in html and "<img" not in html and "href" not in html
    assert html.count("<h2>") == 6  # No heading of its own either.
    assert "alert(1)" in html
