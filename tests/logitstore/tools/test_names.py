"""Names of classes and labels, and which class a label stands for."""

import numpy as np
import pytest

import logitstore

IMAGENET = {
    4: logitstore.ClassList(
        ids=("n00000001", "n00000002", "n00000003", "n00000004"), names=("tench", "shark", "ray", "cock")
    ),
    6: logitstore.ClassList(
        ids=tuple(f"n0000000{n}" for n in range(1, 7)), names=("a fish", "a shark", "a ray", "a cock", "a hen", "a jay")
    ),
}
LABELS = np.array([0, 1, -1, 9])


@pytest.fixture
def names_of(make_spec):
    def make(teacher=None, data=None, *, published=None, **changes):
        return logitstore.class_names(
            make_spec(
                **{"num_classes": 4, "topk": 2, **changes}, teacher={"class_names": teacher}, data={"class_names": data}
            ),
            published=published,
        )

    return make


def test_without_names(names_of):
    names = names_of()
    assert names.classes is None and names.labels is None
    assert names.class_name(0) is None and names.label_name(0) is None
    # Labels without names are taken for the numbers of the classes.
    assert names.classes_of(LABELS).tolist() == [0, 1, -1, -1]


def test_the_teachers_names_the_datas_and_published_ones_in_this_order(names_of):
    own, other = list("abcd"), list("wxyz")
    assert names_of(own, other).classes == tuple(own)
    assert names_of(None, other).classes == tuple(other)
    assert names_of(None, ["x", "y"], published=IMAGENET).classes == ("tench", "shark", "ray", "cock")
    assert names_of(["too", "few"], other).classes is None
    names = names_of(own, ["x", "y"])
    assert (names.class_name(3), names.class_name(4), names.class_name(-1)) == ("d", None, None)
    assert (names.label_name(1), names.label_name(2), names.label_name(-1)) == ("y", None, None)


def test_wordnet_ids_become_names_those_of_the_shorter_list_first(names_of):
    ids = list(IMAGENET[6].ids)
    names = names_of(ids, ids[4:], num_classes=6, published=IMAGENET)
    assert names.classes == ("tench", "shark", "ray", "cock", "a hen", "a jay")
    assert names.labels == ("a hen", "a jay")
    assert names_of(ids, None, num_classes=6).classes == tuple(ids)


def test_labels_stand_for_classes_by_number_id_or_name(names_of):
    by_number = names_of(list("abcd"), list("wxyz"))
    assert by_number.classes_of([3, 0]).tolist() == [3, 0]
    by_name = names_of(list("abcd"), ["c", "a"])
    assert by_name.classes_of(LABELS).tolist() == [2, 0, -1, -1]
    by_id = names_of(None, ["n00000004", "n00000001"], published=IMAGENET)
    assert by_id.classes_of(LABELS).tolist() == [3, 0, -1, -1]
    some = names_of(None, ["n00000004", "n99999999"], published=IMAGENET)
    assert some.classes_of(LABELS).tolist() == [3, -1, -1, -1]
    assert some.labels == ("cock", "n99999999")
    for names in (names_of(list("abcd"), ["c", "else"]), names_of(None, ["c", "a"])):
        assert names.class_of_label is None
        assert names.classes_of(LABELS).tolist() == [-1] * 4


def test_of_a_store(make_store):
    store = logitstore.open(make_store(data={"class_names": list("vwxyz")}))
    names = logitstore.class_names(store)
    assert names.labels == tuple("vwxyz") and names.classes is None
