"""Views: the only augmentation path, the same in the teacher and the student pass.

    draw(spec, seed, image size) -> View          render(image bytes, View) -> uint8 pixels

Seeds, order and file reading come before (`distill.data`), normalisation on the device after (`distill.runtime`).
"""

from distill.views.decode import EncodedImage, decode, image_size
from distill.views.describe import describe
from distill.views.digest import spec_digest
from distill.views.draw import draw
from distill.views.evaluation import eval_pixels
from distill.views.mix import Mixing, MixSpec, describe_mix, draw_mix, mix_digest, mix_pixels, own_weight, pair_order
from distill.views.policies import Policy
from distill.views.proof import block_proof, pixel_digest, software
from distill.views.randaugment import RandAugment
from distill.views.render import render
from distill.views.spec import EvalSpec, ViewSpec
from distill.views.three_augment import ThreeAugment
from distill.views.trivial_augment import TrivialAugment
from distill.views.view import Box, Erase, Operation, View

__all__ = [
    "Box",
    "EncodedImage",
    "Erase",
    "EvalSpec",
    "MixSpec",
    "Mixing",
    "Operation",
    "Policy",
    "RandAugment",
    "ThreeAugment",
    "TrivialAugment",
    "View",
    "ViewSpec",
    "block_proof",
    "decode",
    "describe",
    "describe_mix",
    "draw",
    "draw_mix",
    "eval_pixels",
    "image_size",
    "mix_digest",
    "mix_pixels",
    "own_weight",
    "pair_order",
    "pixel_digest",
    "render",
    "software",
    "spec_digest",
]
