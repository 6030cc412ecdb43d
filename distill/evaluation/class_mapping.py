"""The classes that a model is scored on: its own, or those of the data, matched by WordNet ids."""

from __future__ import annotations

from distill import models
from distill.data.image_folder import Images
from distill.errors import DistillError
from distill.evaluation import score
from distill.models.weights import class_maps


def map_to_data(model: models.ImageModel, images: Images, *, classes: str) -> models.ClassMap | None:
    """The map from a model's classes to a data set's; None where they are the same.

    **Arguments:** `classes`: `same`, or `wordnet`. For `wordnet` the data's class names are WordNet ids (the names of
    ImageNet's folders); the model's are too, or it has the 1,000 or 21,841 classes of a published model.

    **Raises:** `DistillError` if the numbers of classes differ under `same`, or class names are no WordNet ids.
    """
    if classes == "same":
        score.check_classes(images, model.num_classes)
        return None
    if not class_maps.are_synset_ids(images.class_names):
        wrong_name = next((name for name in images.class_names if not class_maps.are_synset_ids([name])), "none")
        raise DistillError(
            f"eval.classes=wordnet: the classes of {images.where} are not WordNet ids such as n01440764 "
            f"({wrong_name!r}): name the class folders by their ids"
        )
    names = model.class_names or ()
    ids = names if class_maps.are_synset_ids(names) else class_maps.ids_of_count(model.num_classes)
    return None if ids == images.class_names else models.match_classes(ids, images.class_names)


def describe(class_map: models.ClassMap, images: Images) -> str:
    """A sentence on what a map does to the scores."""
    text = f"{class_map.num_sources} classes of the model are mapped to the {class_map.num_targets} of {images.where}"
    if missing := [images.class_names[n] for n in class_map.missing]:
        some = ", ".join(missing[:5]) + (", .." if len(missing) > 5 else "")
        text += f"; {len(missing)} without a counterpart ({some}) get the mean of the others' logits"
    return text
