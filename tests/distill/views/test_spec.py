"""Specs: JSON there and back, refusals by name, names of policies, the YAML choices."""

import json
from pathlib import Path

import pytest
import yaml

from distill import conf
from distill.errors import DistillError, UsageError
from distill.views import EvalSpec, RandAugment, ThreeAugment, TrivialAugment, ViewSpec
from distill.views.checks import VERSION

CHOICES = sorted((Path(conf.__file__).parent / "view").glob("*.yaml"))


@pytest.mark.parametrize(
    "spec",
    [
        ViewSpec(),
        ViewSpec(policy=RandAugment(layers=3), color_jitter=(0.4, 0.0, 1.0), erase=0.25, erase_count=(1, 3)),
        ViewSpec(policy=TrivialAugment(operations=("Identity", "Rotate"))),
        ViewSpec(policy=ThreeAugment(), decode="dct"),
        ViewSpec(crop="full", flip=0.0, policy=RandAugment(operations=("Invert", "ShearX"))),
    ],
)
def test_json_there_and_back(spec):
    text = json.dumps(spec.to_json())
    assert ViewSpec.from_json(json.loads(text)) == spec
    assert json.dumps(ViewSpec.from_json(json.loads(text)).to_json()) == text


def test_eval_json_there_and_back():
    spec = EvalSpec(crop=0.95, full=True)
    assert EvalSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("choice", CHOICES, ids=lambda path: path.stem)
def test_yaml_choices_load_and_survive_json(choice):
    spec = ViewSpec.from_json(yaml.safe_load(choice.read_text()))
    assert ViewSpec.from_json(spec.to_json()) == spec


def test_there_are_the_promised_choices():
    promised = {"none", "crop_flip", "randaugment", "trivialaugment_wide", "three_augment", "color_jitter", "fashion"}
    assert promised <= {path.stem for path in CHOICES}


def test_unknown_keys_are_refused_by_name():
    with pytest.raises(UsageError, match=r"flipp.*mixx"):
        ViewSpec.from_json({"flipp": 0.5, "mixx": 1})
    with pytest.raises(UsageError, match="strenth"):
        ViewSpec.from_json({"policy": {"kind": "randaugment", "strenth": 9}})
    with pytest.raises(UsageError, match="size"):
        EvalSpec.from_json({"size": 224})


@pytest.mark.parametrize("kind", [ViewSpec, EvalSpec])
def test_newer_versions_are_refused(kind):
    newer = kind().to_json() | {"version": VERSION + 1, "key_of_the_future": 1}
    with pytest.raises(DistillError, match="newer"):
        kind.from_json(newer)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop", "center"),
        ("scale", [0.5, 0.2]),
        ("scale", [0.5, 1.5]),
        ("scale", 0.5),
        ("scale", "0.1"),
        ("ratio", [0.0, 1.0]),
        ("interpolation", "lanczos"),
        ("flip", 1.5),
        ("flip", "0.5"),
        ("flip", True),
        ("policy", 3),
        ("policy", "autoaugment"),
        ("policy", {"layers": 2}),
        ("policy", {"kind": "augmix"}),
        ("policy", {"kind": 3}),
        ("policy", {"kind": "three-augment", "layers": 2}),
        ("policy", {"kind": "trivialaugment-wide", "operations": ["Invert"]}),
        ("policy", RandAugment),
        ("decode", "fast"),
        ("policy_interpolation", "nearest"),
        ("color_jitter", [0.4, 0.4]),
        ("color_jitter", [0.4, 0.4, -0.1]),
        ("erase", -0.1),
        ("erase_count", [1, 5]),
        ("erase_count", [1.0, 2.0]),
        ("erase_mode", "rand"),
        ("fill", [0, 0, 256]),
        ("noise_std", [1.5, 1, 1]),
        ("version", "1"),
        ("version", 0),
    ],
)
def test_wrong_values_are_refused_with_the_key(key, value):
    with pytest.raises(UsageError, match=key):
        ViewSpec.from_json({key: value})


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"layers": 0}, "layers"),
        ({"layers": "2"}, "layers"),
        ({"prob": 1.5}, "prob"),
        ({"magnitude": 11}, "magnitude"),
        ({"operations": ["Rotat"]}, "Rotat"),
        ({"operations": []}, "operations"),
    ],
)
def test_wrong_policies_are_refused(values, match):
    with pytest.raises(UsageError, match=match):
        ViewSpec.from_json({"policy": {"kind": "randaugment"} | values})


def test_names_of_policies():
    assert RandAugment.parse("rand-m9-mstd0.5-inc1") == RandAugment()
    assert RandAugment.parse("rand-m7-n3-p0.25-mstd1-mmax12-inc1") == RandAugment(
        layers=3, prob=0.25, magnitude=7, magnitude_std=1, magnitude_max=12
    )
    assert RandAugment.parse("rand-inc1") == RandAugment(magnitude=10, magnitude_std=0)
    assert ViewSpec(policy="rand-m9-mstd0.5-inc1") == ViewSpec(policy=RandAugment())
    assert ViewSpec.from_json({"policy": "none"}).policy is None


@pytest.mark.parametrize(
    "name",
    [
        "rand-m9",
        "rand-m9-inc0",
        "rand-m9-inc1-w0",
        "rand-m9-inc1-tweights",
        "rand-m9-m8-inc1",
        "augmix-m3",
        "rand-n1.5-inc1",
        "",
    ],
)
def test_names_that_are_not_understood_are_refused(name):
    with pytest.raises(UsageError, match="policy"):
        RandAugment.parse(name)


def test_policies_say_their_kind():
    for name, kind in (("trivialaugment-wide", TrivialAugment), ("three-augment", ThreeAugment)):
        policy = ViewSpec(policy=name).policy
        assert policy == kind()
        assert ViewSpec(policy=name).to_json()["policy"]["kind"] == name
    assert ViewSpec(policy="rand-inc1").to_json()["policy"]["kind"] == "randaugment"
    with pytest.raises(UsageError, match=r"'kind' is missing.*randaugment, trivialaugment-wide, three-augment"):
        ViewSpec.from_json({"policy": {"layers": 2}})
    with pytest.raises(UsageError, match="unknown kind 'augmix'"):
        ViewSpec.from_json({"policy": "augmix"})
    with pytest.raises(UsageError, match="policy"):
        ViewSpec(policy=RandAugment(kind="three-augment"))
