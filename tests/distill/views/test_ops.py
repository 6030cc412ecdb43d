"""Each operation against timm's function on Pillow with the same parameter.

Tolerances in grey levels: `most` over all pixels, `mean` over an image; for bilinear geometric operations
the weights are in 1/32 pixel and rounded to nearest (Pillow rounds down), and a rotation may place a few pixels on
the other side of the sharp edge to the fill colour.
"""

import math
from typing import Any

import numpy as np
import pytest
import timm.data.auto_augment as reference
from PIL import Image

from distill.errors import DistillError
from distill.views import Operation
from distill.views.ops import OPERATIONS, Rule, apply
from distill.views.ops_color import IDENTITY
from distill.views.ops_geometry import ONE, cosine_and_sine
from distill.views.randaugment import DEGREE_GRID, INCREASING
from distill.views.view import GEOMETRIC

FILL = (124, 116, 104)
STRENGTHS = (0, 0.3, 2, 5, 7.7, 8.5, 9, 9.6, 10)
EXACT, CLOSE = (0, 0.0), (1, 0.01)
TOLERANCE = dict.fromkeys(OPERATIONS, EXACT) | {"Color": CLOSE} | dict.fromkeys(GEOMETRIC, (6, 1.0))
TOLERANCE |= {"TranslateX": CLOSE, "TranslateY": CLOSE}


def as_timm_does(pixels: np.ndarray, name: str, amount: float, interpolation: str) -> np.ndarray:
    """The reference: timm's function of the policy's `name`."""
    operation = INCREASING[name][0]
    if operation == "Posterize" and amount == 0:  # Pillow 13 refuses to keep 0 bits; older ones gave black
        return np.zeros_like(pixels)
    whole = operation in ("Posterize", "Solarize", "SolarizeAdd")
    arguments = () if reference.LEVEL_TO_ARG[name] is None else (int(amount) if whole else amount,)
    how = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    function: Any = reference.NAME_TO_OP[name]
    return np.asarray(function(Image.fromarray(pixels), *arguments, fillcolor=FILL, resample=how))


def differences(name: str, interpolation: str, squares: list[np.ndarray]):
    """Absolute differences to the reference, int64 (h, w, 3), for images, strengths and signs."""
    operation, amount_of = INCREASING[name]
    for image in squares:
        for strength in STRENGTHS:
            for amount in sorted({amount_of(strength, False), amount_of(strength, True)}):
                ours = Operation(name=operation, amount=amount, interpolation=interpolation, fill=FILL)
                expected = as_timm_does(image, name, amount, interpolation)
                found = apply(image.copy(), ours)
                assert found.dtype == np.uint8
                assert found.shape == image.shape
                yield np.abs(found.astype(np.int64) - expected)


@pytest.mark.parametrize("name", [name for name, (operation, _) in INCREASING.items() if operation not in GEOMETRIC])
def test_colour_operations_are_timms(name, squares):
    most, mean = TOLERANCE[INCREASING[name][0]]
    for difference in differences(name, "", squares):
        assert difference.max() <= most
        assert difference.mean() <= mean


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateXRel", "TranslateYRel", "Rotate"])
def test_bilinear_geometric_operations_are_timms(name, squares):
    most, mean = TOLERANCE[INCREASING[name][0]]
    for difference in differences(name, "bilinear", squares):
        outliers = (difference.max(axis=-1) > most).mean()
        assert outliers <= (2e-4 if name == "Rotate" else 0)
        assert difference.mean() <= mean


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateXRel", "TranslateYRel", "Rotate"])
def test_bicubic_geometric_operations_are_timms(name, squares):
    for difference in differences(name, "bicubic", squares):
        outliers = (difference.max(axis=-1) > 6).mean()
        assert outliers <= (2e-4 if name == "Rotate" else 0)
        assert difference.mean() <= (0.1 if name == "Rotate" else 0)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.75, 3.0])
@pytest.mark.parametrize("name", ["Brightness", "Contrast", "Color", "Sharpness"])
def test_factors_of_jitter_are_pillows(name, factor, squares):
    from PIL import ImageEnhance

    enhance = getattr(ImageEnhance, name)
    most, _ = TOLERANCE[name]
    for image in squares:
        expected = np.asarray(enhance(Image.fromarray(image)).enhance(factor))
        found = apply(image.copy(), Operation(name=name, amount=factor))
        # One grey level of difference in the grey image counts |1 - factor| times.
        assert np.abs(found.astype(int) - expected).max() <= math.ceil(most * abs(1 - factor))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 2, 3), (1, 40, 3), (3, 3, 3)])
def test_tiny_images_keep_their_shape(name, shape):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    moved = apply(image.copy(), Operation(name=name, amount=1.0, interpolation="bilinear", fill=FILL))
    assert moved.shape == shape
    assert moved.dtype == np.uint8


def test_identity_amounts_change_nothing(squares):
    for name, amount in (("Brightness", 1.0), ("Contrast", 1.0), ("Color", 1.0), ("Sharpness", 1.0)):
        assert (apply(squares[0].copy(), Operation(name=name, amount=amount)) == squares[0]).all()
    for name in GEOMETRIC:
        still = Operation(name=name, amount=0.0, interpolation="bilinear", fill=FILL)
        assert (apply(squares[0].copy(), still) == squares[0]).all()


def test_geometric_operations_fill_with_the_given_colour():
    white = np.full((60, 40, 3), 255, dtype=np.uint8)
    half = Operation(name="TranslateX", amount=0.5, interpolation="bilinear", fill=(1, 2, 3))
    moved = apply(white, half)
    assert (moved[:, 20:] == (1, 2, 3)).all()
    assert (moved[:, :20] == 255).all()


def test_angles_on_the_grid_are_far_from_rounding_ties():
    """The last bit of the C library's sine must not decide a coefficient."""
    for step in range(-135 * DEGREE_GRID, 135 * DEGREE_GRID + 1):
        angle = step / DEGREE_GRID * (math.pi / 180)
        for value in (math.cos(angle) * ONE, math.sin(angle) * ONE):
            assert abs(abs(value) % 1 - 0.5) > 1e-9 or value == round(value)
    assert cosine_and_sine(60.0) == (32768, 56756)


def test_each_rule_has_a_description():
    for rule in OPERATIONS.values():
        assert rule.describe(1.5)
    assert isinstance(OPERATIONS["Invert"], Rule)


def test_descriptions_name_the_direction_in_which_pixels_move(squares):
    """No "up by -0.25"."""
    for name, amount, description, edge in (
        ("TranslateX", 0.25, "move left by 0.2500 of the width", np.s_[:, -1]),
        ("TranslateX", -0.25, "move right by 0.2500 of the width", np.s_[:, 0]),
        ("TranslateY", 0.25, "move up by 0.2500 of the height", np.s_[-1]),
        ("TranslateY", -0.25, "move down by 0.2500 of the height", np.s_[0]),
    ):
        operation = Operation(name=name, amount=amount, interpolation="bilinear", fill=(1, 2, 3))
        assert OPERATIONS[name].describe(amount) == description
        assert (OPERATIONS[name].apply(squares[0].copy(), operation)[edge] == (1, 2, 3)).all()
    assert OPERATIONS["Rotate"].describe(-3) == "rotate 3.00 degrees clockwise"


def test_tables_are_not_shared_with_the_caller(squares):
    """An operation writes into its image, never into a table that others use."""
    before = IDENTITY.copy()
    apply(np.full((8, 8, 3), 9, dtype=np.uint8), Operation(name="Equalize"))
    assert (before == IDENTITY).all()


def test_unknown_operations_are_refused():
    with pytest.raises(DistillError, match="Swirl"):
        apply(np.zeros((4, 4, 3), dtype=np.uint8), Operation(name="Swirl"))


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.5, 2.0])
def test_blur_is_near_pillows(radius, squares):
    """Pillow approximates the Gaussian by three box means; both are the same to the eye."""
    from PIL import ImageFilter

    for image in squares:
        expected = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
        found = apply(image.copy(), Operation(name="GaussianBlur", amount=radius / 224))
        difference = np.abs(found.astype(int) - expected)
        assert difference.max() <= 24
        assert difference.mean() <= 1.5
    assert (apply(squares[0].copy(), Operation(name="GaussianBlur", amount=0.0)) == squares[0]).all()


@pytest.mark.parametrize("name", ["TranslateX", "TranslateY"])
def test_shifts_at_every_fraction_are_pillows(name, squares):
    """Whole, half and odd shifts, both ways, up to and beyond the whole side: within one grey level."""
    image = squares[3][:50, :70]
    height, width = image.shape[:2]
    side = width if name == "TranslateX" else height
    for pixels in (0, 0.25, 0.5, 0.75, 1, 3.4, 7.5, side - 1, side - 0.5, side, side + 3):
        for amount in (round(pixels / side * ONE) / ONE, -round(pixels / side * ONE) / ONE):
            shift = round(amount * ONE) * side / ONE
            shift = round(shift * 4096) / 4096
            matrix = (1, 0, shift, 0, 1, 0) if name == "TranslateX" else (1, 0, 0, 0, 1, shift)
            expected = Image.fromarray(image).transform(
                (width, height), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR, fillcolor=FILL
            )
            found = apply(image.copy(), Operation(name=name, amount=amount, interpolation="bilinear", fill=FILL))
            assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1, (name, pixels, amount)
