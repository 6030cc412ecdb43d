import json

import pytest

import logitstore
from logitstore import SpecError, StoreSpec, UnsupportedVersion, differences


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"topk": 31}, "topk is 31"),
        ({"topk": 0}, "topk is 0"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"num_epochs": -1}, "num_epochs is -1"),
        ({"num_classes": True}, "num_classes is True"),
        ({"num_samples": 2.0}, "num_samples is 2.0"),
        ({"rows_per_block": 5000}, "multiple of 4096"),
        ({"encoding": "log9"}, "log8, float16"),
        ({"selection": "best"}, "topk"),
        ({"selection": "sample", "draws": 3}, "go together"),
        ({"encoding": "counts"}, "go together"),
        ({"selection": "sample", "encoding": "counts"}, "draws is 0"),
        ({"selection": "sample", "encoding": "counts", "draws": 256}, "draws is 256"),
        ({"draws": 5}, "draws is 5"),
        ({"max_mass": 1}, "max_mass is 1"),
        ({"max_mass": 0.0}, "max_mass"),
        ({"max_mass": 0.9, "selection": "hybrid"}, "for `topk` only"),
        ({"tail_groups": 31}, "tail_groups is 31"),
        ({"store_seed": 2**64}, "store_seed"),
        ({"proof_rows": 9}, "proof_rows is 9"),
        ({"log_step": 0.0}, "log_step"),
        ({"view": {"scale": float("nan")}}, "view cannot be stored"),
        ({"teacher": {"net": object()}}, "teacher cannot be stored"),
        ({"data": None}, "data is a NoneType"),
    ],
)
def test_contradictions_are_refused_by_name(make_spec, changes, part):
    with pytest.raises(SpecError, match=part):
        make_spec(**changes)


def test_blocks_cover_the_rows_once(make_spec):
    spec = make_spec()
    assert spec.num_blocks == 3
    assert [row for block in range(3) for row in spec.block_rows(block)] == list(range(20))
    with pytest.raises(SpecError, match="block 3"):
        spec.block_rows(3)


def test_json_round_trip(make_spec):
    spec = make_spec(view={"scale": (0.08, 1.0)}, teacher={"class_names": ["käse"]}, store_seed=2**64 - 1)
    assert StoreSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_json_with_unknown_or_missing_keys(make_spec):
    document = make_spec().to_json()
    with pytest.raises(UnsupportedVersion, match="colour"):
        StoreSpec.from_json({**document, "colour": 1})
    del document["topk"]
    with pytest.raises(SpecError, match="topk"):
        StoreSpec.from_json(document)


def test_differences_name_the_leaf_and_both_values(make_spec):
    store = make_spec(view={"scale": [0.08, 1.0], "flip": 0.5}, software={"torch": "2.6"})
    request = make_spec(view={"scale": [0.2, 1.0], "new": None}, software={"torch": "2.7"}, topk=4)
    assert differences(store, request) == [
        "topk: store has 5, request has 4",
        "view.scale: store has [0.08, 1.0], request has [0.2, 1.0]",
        "view.flip: store has 0.5, request has nothing",
        "view.new: store has nothing, request has null",
    ]
    assert differences(store, store) == []


def test_differences_of_long_values_are_cut(make_spec):
    (line,) = differences(make_spec(data={"class_names": ["x"] * 5000}), make_spec(data={"class_names": []}))
    assert len(line) < 400


def test_import_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, logitstore, logitstore.cli; print({'torch', 'distill', 'cv2', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert logitstore.FORMAT_VERSION == 2
