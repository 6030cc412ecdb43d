"""Where fine-tuning starts: the weights of a file in the student, its head and its windows changed where asked for.

A step of making the student (`student_pass.make_training`); the changes themselves are `models.load_weights`'s.
"""

from __future__ import annotations

from distill import inputs, models
from distill.config import TrainStudentConfig
from distill.models.weights import class_maps

SOURCE = "imagenet_22k"
"""The classes of the published pretraining, from which heads are re-mapped: 21,841 WordNet ids."""


def load_init_weights(net: models.TinyViT, config: TrainStudentConfig) -> None:
    """Gives `net` the weights of `student.init`.

    With `student.init_classes=map` row i of its head comes from the row of the same WordNet id in the file's: i's id is
    the name of the data set's class i where these are ids (ImageNet's folders), else that of ImageNet-1k. A class that
    the file does not have gets the mean of the others.

    **Raises:** `WeightsError` where the file cannot be read or does not fit; `ModelError` where ids are not known.
    """
    student = config.student
    assert student.init and config.data.path
    class_map = None
    if student.init_classes == "map":
        names = inputs.open_catalog(config.data, config.data.path).class_names
        named = len(names) == net.num_classes and class_maps.are_synset_ids(names)
        class_map = models.match_classes(SOURCE, names if named else class_maps.ids_of_count(net.num_classes))
    models.load_weights(
        net,
        student.init,
        class_map=class_map,
        resize_windows=student.init_windows == "resize",
        new_head=student.init_classes == "new",
    )
