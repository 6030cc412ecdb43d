"""Initial weights of the student from a file, as in fine-tuning, with a new head or other windows where set.

Called by `setup.make_training`; `models.load_weights` makes the changes.
"""

from __future__ import annotations

from distill import inputs, models
from distill.config import TrainStudentConfig
from distill.models.weights import class_maps

SOURCE = "imagenet_22k"
"""Classes of the published pretraining, 21,841 WordNet ids, from which heads are mapped."""


def load_init_weights(net: models.TinyViT, config: TrainStudentConfig) -> None:
    """Loads the weights of `student.init` into `net`.

    With `student.init_classes=map` row i of its head is the row of the same WordNet id in the file. The id of class i
    is its name in the data set, where names are ids (ImageNet's folders), else the id of class i of ImageNet-1k. A
    class that the file does not have gets the mean of the others.

    **Raises:** `WeightsError` where the file cannot be read or does not fit; `ModelError` where ids are unknown.
    """
    student = config.student
    assert student.init and config.data.path
    class_map = None
    if student.init_classes == "map":
        names = inputs.open_catalog(config.data, config.data.path).class_names
        are_ids = len(names) == net.num_classes and class_maps.are_synset_ids(names)
        class_map = models.match_classes(SOURCE, names if are_ids else class_maps.ids_of_count(net.num_classes))
    models.load_weights(
        net,
        student.init,
        class_map=class_map,
        resize_windows=student.init_windows == "resize",
        new_head=student.init_classes == "new",
    )
