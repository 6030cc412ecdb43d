"""Names of classes, and the classes of labels."""

from __future__ import annotations

import numpy as np

from distill.page.classes import class_name, classes_of, label_name
from tests.distill.page.conftest import small_spec


def test_labels_are_classes_by_number_by_id_or_by_name() -> None:
    labels = np.array([0, 1, -1, 9], np.int32)
    assert classes_of(small_spec()).classes_of(labels).tolist() == [0, 1, -1, -1]
    by_id = classes_of(small_spec(num_classes=1000, data={"class_names": ["n01443537", "n01440764"]}))
    assert by_id.classes_of(labels).tolist() == [1, 0, -1, -1]
    assert label_name(by_id, 1) == "tench, Tinca tinca" and class_name(by_id, 1) == "goldfish, Carassius auratus"
    names = [f"name {n}" for n in range(8)]
    by_name = classes_of(small_spec(teacher={"class_names": names}, data={"class_names": ["name 5", "name 2"]}))
    assert by_name.classes_of(labels).tolist() == [5, 2, -1, -1]
    other = classes_of(small_spec(teacher={"class_names": names}, data={"class_names": ["name 5", "else"]}))
    assert other.class_of_label is None and other.classes_of(labels).tolist() == [-1] * 4


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    bare = classes_of(small_spec())
    assert class_name(bare, 3) == "class 3" and label_name(bare, 3) == "label 3"
    assert class_name(classes_of(small_spec(num_classes=21841)), 0) != "class 0"
