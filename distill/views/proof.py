"""Digests of rendered pixels, and the versions of the libraries that decide them.

A digest shows whether two machines rendered the same pixels; it is no protection against forgery. In a store 0 means
that there is no block, so no digest is ever 0.
"""

import platform
import re
from collections.abc import Sequence

import cv2
import numpy as np
import PIL
import torch
import xxhash

from distill.views.checks import VERSION
from distill.views.decode import SIMPLEJPEG


def pixel_digest(pixels: np.ndarray) -> int:
    """xxh3 (64 bits) of the shape, as little-endian uint32, and the bytes of a uint8 array; never 0."""
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8, got {pixels.dtype}")
    digest = xxhash.xxh3_64(np.array(pixels.shape, dtype="<u4").tobytes())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.intdigest() or 1


def block_proof(digests: Sequence[int]) -> int:
    """xxh3 (64 bits) of a block's first rows' digests, as little-endian uint64, in row order; never 0."""
    if len(digests) == 0:
        raise ValueError("a proof needs the digest of at least one row")
    return xxhash.xxh3_64_intdigest(np.array(digests, dtype="<u8").tobytes()) or 1


def software() -> dict[str, str]:
    """Versions of the libraries that decide pixels, and the kind of machine."""
    return {
        "views": str(VERSION),
        "opencv": cv2.__version__,
        "libjpeg": _libjpeg(),
        "simplejpeg": SIMPLEJPEG,
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "numpy": np.__version__,
        "xxhash": xxhash.VERSION,
        "machine": platform.machine(),
    }


def _libjpeg() -> str:
    """The JPEG library that OpenCV was built with, such as 'libjpeg-turbo 3.1.2-70'."""
    line = re.search(r"^\s*JPEG:\s*(.*)$", cv2.getBuildInformation(), flags=re.MULTILINE)
    version = re.search(r"(libjpeg\S*).*?\(ver ([^)]*)\)", line[1]) if line else None
    return f"{version[1]} {version[2]}" if version else "unknown"
