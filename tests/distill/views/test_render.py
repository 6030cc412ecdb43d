"""Rendering: true to Pillow, replayable at another size, careful with what it is given."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from distill.errors import DistillError
from distill.views import (
    Box,
    EncodedImage,
    Erase,
    RandAugment,
    View,
    ViewSpec,
    decode,
    describe,
    draw,
    image_size,
    render,
)
from distill.views.erase import noise_table
from distill.views.render import reduction, resize
from distill.views.view import RELATIVE
from tests.distill.views.conftest import encode

SPEC = ViewSpec(policy=RandAugment(), color_jitter=(0.4, 0.4, 0.4), erase=0.5)


def whole(height: int, width: int, **more) -> View:
    box = Box(top=0, left=0, height=height, width=width)
    return View(source=(height, width), crop=box, interpolation="bicubic", **more)


@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(200, 180), (60, 90), (300, 31), (1, 1), (7, 299), (224, 224)])
def test_resize_is_pillows(photographs, name, shape):
    height, width = shape
    window = np.ascontiguousarray(photographs[2][50 : 50 + height, 60 : 60 + width])
    how = Image.Resampling[name.upper()]
    image = Image.fromarray(window)
    found = resize(window, size=224, interpolation=name).astype(int)

    # torch resizes the width first and rounds; so does Pillow, but for images where it finds height first cheaper.
    width_first = np.abs(found - np.asarray(image.resize((224, height), how).resize((224, 224), how)))
    assert width_first.max() <= 2
    assert width_first.mean() <= 0.05
    direct = np.abs(found - np.asarray(image.resize((224, 224), how)))
    assert direct.max() <= (10 if shape == (300, 31) else 2)
    assert direct.mean() <= 0.3


def test_crop_and_flip_without_anything_else(photographs):
    image = photographs[0]
    view = View(source=image.shape[:2], crop=Box(top=30, left=50, height=64, width=64), interpolation="bicubic")
    assert (render(image, view, size=64) == image[30:94, 50:114]).all()
    flipped = View(source=view.source, crop=view.crop, interpolation="bicubic", flip=True)
    assert (render(image, flipped, size=64) == image[30:94, 50:114][:, ::-1]).all()


def test_bytes_and_decoded_pixels_render_alike(jpeg):
    for seed in range(20):
        view = draw(SPEC, seed, image_size(jpeg))
        pixels = render(jpeg, view)
        assert pixels.shape == (224, 224, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert (render(decode(jpeg), view) == pixels).all()


def test_the_given_image_is_never_written_to(photographs):
    image = photographs[1].copy()
    original = image.copy()
    for seed in range(40):
        spec = ViewSpec(crop="full", flip=0.0, policy=RandAugment(prob=1.0), erase=1.0)
        rendered = render(image, draw(spec, seed, image.shape[:2]), size=224)
        assert not np.shares_memory(rendered, image)
    square = np.ascontiguousarray(image[:224, :224])
    render(square, whole(224, 224, erase=draw(ViewSpec(erase=1.0), 1, (224, 224)).erase), size=224)
    assert (image == original).all()
    assert (square == original[:224, :224]).all()


def test_read_only_images_are_fine(photographs):
    image = photographs[0].copy()
    image.flags.writeable = False
    view = draw(SPEC, 3, image.shape[:2])
    assert (render(image, view) == render(photographs[0], view)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (3, 700), (2, 2)])
def test_tiny_and_long_images(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for seed in range(10):
        assert render(image, draw(SPEC, seed, shape), size=32).shape == (32, 32, 3)


def test_another_image_is_refused(jpeg):
    with pytest.raises(DistillError, match="height 10 and width 20, this one has 300 and 400"):
        render(jpeg, draw(ViewSpec(), 1, (10, 20)))
    with pytest.raises(DistillError, match="float32"):
        render(np.zeros((10, 20, 3), dtype=np.float32), draw(ViewSpec(), 1, (10, 20)))


def test_replay_at_another_size(photographs):
    """Rendered at 384 and halved, a view is the one rendered at 192: same crop, operations and boxes."""
    spec = ViewSpec(policy=RandAugment(), erase=0.5, erase_mode="const", scale=(0.3, 1.0))
    means = []
    for seed in range(120):
        image = photographs[seed % 3]
        view = draw(spec, seed, image.shape[:2])
        halved = cv2.resize(render(image, view, size=384), (192, 192), interpolation=cv2.INTER_AREA)
        small = render(image, view, size=192)
        means.append(np.abs(halved.astype(int) - small).mean())
    other = render(photographs[0], draw(spec, 1000, photographs[0].shape[:2]), size=192)
    unlike = np.abs(other.astype(int) - render(photographs[0], draw(spec, 1001, photographs[0].shape[:2]), size=192))
    assert np.median(means) < 2
    assert max(means) < 10
    assert unlike.mean() > 25  # what two different views differ by


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "trivialaugment-wide", "three-augment"])
@pytest.mark.parametrize(("teacher", "student"), [(384, 224), (384, 128), (260, 224), (260, 128)])
def test_a_student_of_another_size_sees_what_the_teacher_saw(photographs, policy, teacher, student):
    """The teacher's image, scaled down, is the student's: the draw knows no output size."""
    spec = ViewSpec(policy=policy, color_jitter=(0.3, 0.3, 0.3), erase=0.5, erase_mode="const", scale=(0.2, 1.0))
    means, unlike = [], []
    for seed in range(40):
        image = photographs[seed % 3]
        view = draw(spec, seed, image.shape[:2])
        large = resize(render(image, view, size=teacher), size=student, interpolation="bilinear").astype(int)
        means.append(np.abs(large - render(image, view, size=student)).mean())
        other = draw(spec, seed + 1000, image.shape[:2])
        unlike.append(np.abs(large - render(image, other, size=student)).mean())
    assert np.median(means) < 3.5
    assert max(means) < 16
    assert np.median(unlike) > 25


def test_erased_boxes_replay_at_any_size():
    box = Box(top=RELATIVE // 4, left=RELATIVE // 2, height=RELATIVE // 2, width=RELATIVE // 4)
    erased = Erase(box=box, mode="const", mean=(1, 2, 3), std=(0, 0, 0), key=0)
    for size in (64, 96, 384):
        pixels = render(np.full((50, 50, 3), 200, dtype=np.uint8), whole(50, 50, erase=(erased,)), size=size)
        inside = (pixels == (1, 2, 3)).all(axis=-1)
        expected = np.zeros((size, size), dtype=bool)
        expected[size // 4 : size * 3 // 4, size // 2 : size * 3 // 4] = True
        assert (inside == expected).all()


def test_noise_is_normal_and_depends_on_its_key_only():
    box = Box(top=0, left=0, height=RELATIVE - 1, width=RELATIVE - 1)

    def noise(key: int) -> np.ndarray:
        erased = Erase(box=box, mode="pixel", mean=(124, 116, 104), std=(40, 30, 20), key=key)
        return render(np.zeros((9, 9, 3), dtype=np.uint8), whole(9, 9, erase=(erased,)), size=128)

    first = noise(5)
    assert (noise(5) == first).all()
    assert (noise(6) != first).mean() > 0.9
    assert first.reshape(-1, 3).mean(axis=0) == pytest.approx([124, 116, 104], abs=1)
    assert first.reshape(-1, 3).std(axis=0) == pytest.approx([40, 30, 20], rel=0.03)
    assert abs(np.corrcoef(first[:, :-1, 0].ravel(), first[:, 1:, 0].ravel())[0, 1]) < 0.03


def test_noise_table_is_monotone_and_cut():
    table = noise_table((124, 116, 104), (58, 57, 57))[0].astype(int)
    assert table.shape == (256, 3)
    assert (np.diff(table, axis=0) >= 0).all()
    assert (table[0], table[-1]) == (pytest.approx([0, 0, 0]), pytest.approx([255, 255, 255]))


def test_views_are_described():
    spec = ViewSpec(policy=RandAugment(prob=1.0, operations=("Rotate", "Invert"), layers=4), erase=1.0)
    view = draw(spec, 1, (375, 500))
    lines = describe(view)
    assert len(lines) == 4 + len(view.operations) + len(view.erase)
    assert lines[0] == "image: 500 x 375 pixels (width x height)"
    assert f"{view.crop.width} x {view.crop.height} at left {view.crop.left}, top {view.crop.top}" in lines[1]
    assert any(line.startswith("Rotate: rotate ") and "bilinear" in line for line in lines)
    assert f"{view.erase[0].key:#018x}" in lines[-1]


def test_dct_decoding_is_close_to_exact_decoding(photographs):
    """Crops of at least twice the output come from a smaller decoding, up to half a pixel aside."""
    spec = ViewSpec(scale=(0.3, 1.0), flip=0.0)
    reduced = 0
    for number, image in enumerate(photographs):
        data = encode(image, quality=90)
        for seed in range(30):
            size = (48, 96, 128)[seed % 3]
            view = draw(replace(spec, decode="dct"), 100 * number + seed, image.shape[:2])
            exact = render(data, replace(view, decode="exact"), size=size)
            assert exact.shape == render(data, view, size=size).shape
            difference = np.abs(render(data, view, size=size).astype(int) - exact)
            factor = reduction(view, size=size)
            reduced += factor > 1
            assert min(view.crop.height, view.crop.width) >= factor * size or factor == 1
            if factor == 1:
                assert difference.max() == 0
            assert difference.mean() < 4
            assert (
                render(EncodedImage(data, several_views=True), view, size=size) == render(data, view, size=size)
            ).all()
    assert reduced > 40


def test_dct_decoding_needs_the_file_and_leaves_other_formats_alone(photographs):
    image = photographs[0]
    view = draw(ViewSpec(crop="full", decode="dct"), 3, image.shape[:2])
    assert reduction(view, size=64) == 8
    with pytest.raises(DistillError, match="needs the image's file"):
        render(image, view, size=64)
    exact = render(image, replace(view, decode="exact"), size=64)
    assert (render(encode(image, "PNG"), view, size=64) == exact).all()
    with pytest.raises(DistillError, match="drawn for an image of height 100"):
        render(encode(image), draw(ViewSpec(crop="full", decode="dct"), 3, (100, 200)), size=20)
