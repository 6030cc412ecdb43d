"""From the bytes of an image file to uint8 RGB, and its size from the header alone.

JPEG and PNG are decoded by OpenCV (libjpeg-turbo, libpng), anything else by Pillow. Where simplejpeg is installed it
decodes JPEGs, with the same pixels (it has libjpeg-turbo too): a tenth faster, as it can stop at the last row that is
needed. A stored orientation (EXIF) is ignored, as in the usual ImageNet pipelines; transparency is dropped; of 16-bit
PNGs the upper 8 bits are taken.

Decoders treat a file that ends early in different ways; some fill the rest with grey and report nothing. So a file must
end with its format's end marker, or pass Pillow's strict reading.
"""

import io
import warnings

import cv2
import numpy as np
from PIL import Image

from distill.errors import DamagedImage
from distill.views.jpeg import parse_frame, truncate_height

try:
    import simplejpeg
except ModuleNotFoundError:
    simplejpeg = None

SIMPLEJPEG: str = simplejpeg.__version__ if simplejpeg else "none"
"""Version in use."""

JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
"""Factor -> OpenCV's flag for a JPEG decoded at 1 / factor of its sides, by a smaller inverse DCT."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What Pillow may take a file for, whatever its name. Others are refused: some of its readers start programs."""
MAX_PIXELS = 178_956_970
"""Of an image, by its header, before anything is decoded: Pillow's own limit. Decoded, this takes half a gigabyte."""
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"


class EncodedImage:
    """An image file: its bytes, its header, parsed once, and the pixels decoded so far."""

    def __init__(self, data: bytes, *, several_views: bool = False) -> None:
        """**Arguments:** `several_views`: the image is decoded as a whole, once for all views.

        **Raises:** `DamagedImage` where the header cannot be read.
        """
        self.data = bytes(data)
        self.is_jpeg, self._is_png = self.data.startswith(JPEG_START), self.data.startswith(PNG_START)
        self._frame = parse_frame(self.data) if self.is_jpeg else None
        self.size = self._size()
        """(height, width) in pixels, from the header only."""
        if self.size[0] * self.size[1] > MAX_PIXELS:
            raise DamagedImage(
                f"the image says that it has {self.size[1]:,} x {self.size[0]:,} pixels, and {MAX_PIXELS:,} in all are "
                "the most that is decoded"
            )
        self._several_views = several_views
        self._decoded: dict[int, np.ndarray] = {}

    def pixels(self, *, factor: int = 1, rows: int | None = None) -> np.ndarray:
        """The image as uint8 (height, width, 3) RGB, C-contiguous; not to be written to.

        With a `factor` of 2, 4 or 8 a JPEG's sides are divided by it, rounded up; other formats have no factor but 1.
        Where only the first `rows` rows are needed, those below may be missing and are not decoded.

        **Raises:** `DamagedImage` where the file is not a whole image.
        """
        if not self._several_views:
            return self._decode(factor, rows)
        if factor not in self._decoded:
            self._decoded[factor] = self._decode(factor, None)
        return self._decoded[factor]

    def _decode(self, factor: int, rows: int | None) -> np.ndarray:
        data = self.data
        if not (self.is_jpeg or self._is_png):
            return _read_strictly(data)
        if not data.endswith(JPEG_END if self.is_jpeg else PNG_END):
            _read_strictly(data)
        if self.is_jpeg and factor == 1 and simplejpeg is not None:
            frame = self._frame
            try:
                needed = truncate_height(data, frame, rows=rows) if frame and rows is not None else data
                return np.asarray(simplejpeg.decode_jpeg(needed, "RGB", strict=False))
            except ValueError:
                pass  # CMYK and other rare kinds, or damage, which OpenCV describes better.
        flags = cv2.IMREAD_COLOR_RGB if factor == 1 else REDUCED[factor]
        try:
            pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:
            raise DamagedImage(f"the image cannot be decoded: {error.err}") from error
        if pixels is None:
            raise DamagedImage(f"the image cannot be decoded ({len(data)} bytes, {'JPEG' if self.is_jpeg else 'PNG'})")
        return np.asarray(pixels if factor == 1 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels))

    def _size(self) -> tuple[int, int]:
        size, data = (0, 0), self.data
        if self._frame:
            size = self._frame.height, self._frame.width
        elif self._is_png and data[12:16] == b"IHDR" and len(data) >= 24:
            size = int.from_bytes(data[20:24]), int.from_bytes(data[16:20])
        return size if min(size) > 0 else _pillow_size(data)


def decode(data: bytes, *, factor: int = 1, rows: int | None = None) -> np.ndarray:
    """A file's pixels, as `EncodedImage.pixels`: uint8 (height, width, 3) RGB. **Raises:** `DamagedImage`."""
    return EncodedImage(data).pixels(factor=factor, rows=rows)


def decode_rgba(data: bytes) -> np.ndarray:
    """The image with its transparency, uint8 (height, width, 4). **Raises:** `DamagedImage`."""
    return _read_strictly(bytes(data), mode="RGBA")


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) in pixels as `decode` gives them, from the header only. **Raises:** `DamagedImage`."""
    return EncodedImage(data).size


def _pillow_size(data: bytes) -> tuple[int, int]:
    with _open(data) as image:
        return image.height, image.width


def _read_strictly(data: bytes, *, mode: str = "RGB") -> np.ndarray:
    """uint8 (height, width, channels of the mode), by Pillow, which refuses files that end early."""
    with _open(data) as image:
        try:
            return np.array(image.convert(mode))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DamagedImage(f"the image is damaged or cut short ({len(data)} B): {error}") from error


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedImage(f"these {len(data)} bytes are not a readable image: {error}") from error
