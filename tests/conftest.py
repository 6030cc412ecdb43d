"""Small real inputs that many tests share: an image folder, packed, and the weights of a tiny teacher."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from distill.data.catalog import Catalog, open_catalog
from distill.data.packing.pack import pack

CLASSES = ("anchor", "bell", "cup")
WORDNET = ("n01440764", "n01443537", "n01484850")


def draw_image(number: int, label: int) -> np.ndarray:
    """A small colour image whose stripes show its class."""
    random = np.random.default_rng(number)
    height, width = random.integers(24, 64, size=2)
    rows, columns = np.mgrid[0:height, 0:width]
    stripes = ((rows, columns, rows + columns)[label] // 4 % 2 * 160).astype(np.uint8)
    noise = random.integers(0, 80, (height, width, 3), np.uint8)
    return noise + stripes[:, :, None]


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 BGR."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert pixels is not None, path
    return pixels


def write_images(folder: Path, num_images: int) -> Path:
    """An image folder with a sub-folder per class, PNG and JPEG in turn."""
    for number in range(num_images):
        label = number % len(CLASSES)
        path = folder / CLASSES[label] / f"{number:04d}.{'png' if number % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), draw_image(number, label))
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), 150)


@pytest.fixture(scope="session")
def data_path(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 images of 3 classes in 8 shards. Tests do not change it."""
    target = tmp_path_factory.mktemp("packed") / "data"
    pack(image_folder, target, rows_per_shard=20)
    return target


@pytest.fixture(scope="session")
def catalog(data_path: Path) -> Catalog:
    return open_catalog(data_path)


@pytest.fixture(scope="session")
def teacher_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny TinyViT for 32 px with random weights, as `distill.train_student` would leave it."""
    from distill import models

    torch.manual_seed(0)
    net = models.build("tiny_vit", num_classes=3, image_size=32, **TINY)
    with torch.no_grad():
        net.head.fc.weight.mul_(50)  # Or it would give all classes the same probability.
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    metadata = {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]", "class_names": '["anchor", "bell", "cup"]'}
    models.save_weights(net, path, metadata=metadata)
    return path


@pytest.fixture(scope="session")
def wordnet_path(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images, the classes named by the WordNet ids of ImageNet's first three."""
    folder = tmp_path_factory.mktemp("wordnet")
    (folder / "images").mkdir()
    for name, synset in zip(CLASSES, WORDNET, strict=True):
        shutil.copytree(image_folder / name, folder / "images" / synset)
    pack(folder / "images", folder / "data", rows_per_shard=20)
    return folder / "data"


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny TinyViT for 32 px and the 21,841 classes of ImageNet-21k, with random weights."""
    from distill import models

    torch.manual_seed(1)
    net = models.build("tiny_vit", num_classes=21841, image_size=32, **TINY)
    for name, parameter in net.named_parameters():
        if name.endswith("attention_biases"):
            torch.nn.init.normal_(parameter)
    path = tmp_path_factory.mktemp("pretrained") / "student.safetensors"
    models.save_weights(net, path, metadata={})
    return path


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """URL of a bucket on an S3-compatible server of this machine, whose address is in the environment."""
    s3fs = pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert server.poll() is None
                    time.sleep(0.1)
            s3fs.S3FileSystem().mkdir("bucket")
            yield "s3://bucket"
    finally:
        server.terminate()
        server.wait()


TINY: dict[str, Any] = {"dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "heads": [1, 1, 2, 2], "windows": [4, 4, 4, 4]}
