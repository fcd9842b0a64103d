"""Image files: what may be opened, and how it becomes grey or colour."""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
from types import ModuleType
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, PpmImagePlugin, TiffImagePlugin, UnidentifiedImageError, features

from opsin.core.errors import ImageError

# Pillow's modules for what may be decoded: it also knows formats that can start other programs.
# TGA is last, because its header says little that other files could not.
_MODULES: Final = [
    "Jpeg", "Png", "WebP", "Gif", "Bmp", "Tiff", "Ppm",
    *(["Avif"] if features.check_module("avif") else []),
    *(["Jpeg2K"] if features.check_codec("jpg_2000") else []),
    "Ico", "Pcx", "Tga",
]  # fmt: skip
# Their classes: the usual openers also look for further images behind the first.
_OPENERS: Final[dict[str, type[ImageFile.ImageFile]]] = {
    opener.format: opener
    for opener in (
        getattr(importlib.import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")
        for name in _MODULES
    )
}
#: What may be decoded.
FORMATS: Final = tuple(_OPENERS)

#: Endings of image files in a folder.
SUFFIXES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", *([".avif"] if "AVIF" in FORMATS else []),
    # Listed even without pi-heif, so that these images are not skipped silently.
    ".heic", ".heif", ".hif", ".mpo", ".tga", ".pcx", ".ico",
    *([".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"] if "JPEG2000" in FORMATS else []),
)  # fmt: skip

#: The formats in words, as errors list them.
NAMED: Final = "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC, AVIF, JPEG 2000, PNM, TGA, PCX or ICO"

#: The error for a HEIC without `pi_heif`.
NEEDS_HEIF: Final = "HEIC needs pi-heif, which is not installed (pip install pi-heif)"

# Brands of HEIC files (ISO/IEC 23008-12, annexes B to D); the last two are containers.
_HEIF_BRANDS: Final = b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split()
_TGA_END: Final = b"TRUEVISION-XFILE.\0"

#: Pixels of the largest image that is opened; more is taken for a decompression bomb.
MAX_PIXELS: Final = 80_000_000
#: Bytes of the largest file that is read.
MAX_BYTES: Final = 200_000_000
# Pixels that are laid over white, or scaled, at a time.
_LAID: Final = 1_000_000

# Numbers of entries in EXIF data and TIFF files.
_ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT = 0x0112, 0x0142, 0x0143
# EXIF's orientations, and what turns the stored image upright (TIFF 6.0, tag 274).
_TURN: Final = Image.Transpose
_TURNS: Final = {
    2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE,
    6: _TURN.ROTATE_270, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_90,
}  # fmt: skip
#: Orientations whose turn brings a far end of the stored image to the left, and to the top.
TURN_LEFT: Final = (2, 3, 6, 7)
TURN_TOP: Final = (3, 4, 7, 8)


def open_header(content: bytes, name: str) -> ImageFile.ImageFile:
    """Read a file's format and size without decoding it."""
    for kind, opener in _OPENERS.items():
        if _accepts(kind, content, name):
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                header: ImageFile.ImageFile = opener(io.BytesIO(content), "")
                _check_limits(header, name)
                return header
    if not is_heif(content):
        raise UnidentifiedImageError(name)
    if (reader := heif_reader()) is None:
        raise ImageError(f"{name}: {NEEDS_HEIF}", "Install it, or save the image as JPEG.")
    image: ImageFile.ImageFile = reader.HeifImageFile(io.BytesIO(content), "")
    _check_limits(image, name)
    return image


def _accepts(kind: str, content: bytes, name: str) -> bool:
    accept = Image.OPEN[kind][1]
    if accept is None:  # a TGA is told by its footer or, since old ones have none, by its name
        return content.endswith(_TGA_END) or name.lower().endswith(".tga")
    # A string means that this build of Pillow lacks the format.
    return accept(content[:16]) is True


def looks_like_image(start: bytes) -> bool:
    """Recognise an image by its first bytes."""
    return is_heif(start) or any(_accepts(kind, start, "") for kind in _OPENERS)


def heif_reader() -> ModuleType | None:
    """Return the optional package that reads HEIC, or ``None`` if it is missing."""
    try:
        import pi_heif  # noqa: PLC0415  loading it takes as long as a small image
    except ImportError:
        return None
    # Only the main image, on one core.
    options = pi_heif.options
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    options.DECODE_THREADS = 1
    reader: ModuleType = pi_heif
    return reader


def is_heif(content: bytes) -> bool:
    """Recognise HEIC or HEIF by its first bytes; some AVIF files begin alike."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS


def _check_limits(header: ImageFile.ImageFile, name: str) -> None:
    sizes = [header.size]
    if isinstance(header, TiffImagePlugin.TiffImageFile):
        # Tiles are decoded whole, even beyond the image's edge.
        wide, high = (header.tag_v2.get(tag) for tag in (_TILE_WIDTH, _TILE_HEIGHT))
        if isinstance(wide, int) and isinstance(high, int):
            sizes.append((wide, high))
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if width * height > MAX_PIXELS:
        most = f"at most {MAX_PIXELS // 1_000_000} million are read"
        raise ImageError(f"{name}: {width:,} × {height:,} pixels; {most}")


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation: 1 for upright, 5 to 8 for an image that lies on its side."""
    if image.format == "HEIF":  # turned by its own rotation already; EXIF's must be ignored
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001  whatever is wrong with the camera's notes, the image is there
        return 1
    return orientation if orientation in _TURNS else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a stored image upright."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def is_simple_jpeg(content: bytes, size: tuple[int, int], *, grey: bool) -> bool:
    """Tell whether simplejpeg agrees on a JPEG's size and colour."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return False
    return (width, height) == size and (space == "Gray") == grey


def decode_jpeg(
    content: bytes, size: tuple[int, int], eighths: int, *, grey: bool
) -> Image.Image | None:
    """Decode a simple JPEG at ``eighths``/8 of its size, each side rounded up."""
    width, height = (-(-side * eighths // 8) for side in size)
    try:
        pixels = simplejpeg.decode_jpeg(
            content, "GRAY" if grey else "RGB", min_width=width, min_height=height
        )
    except ValueError:
        return None
    if pixels.shape[:2] != (height, width):
        return None
    return Image.fromarray(pixels[:, :, 0] if grey else pixels)


def is_grey(header: Image.Image) -> bool:
    """Tell by an image's header whether `grey_or_rgb` will make it grey."""
    return header.mode in ("1", "L", "LA", "La") or header.mode.startswith("I")


def grey_or_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert Pillow's modes of 8 bits to ``L`` or ``RGB``, transparent parts to white."""
    if image.mode == "F":
        what = "holds floating-point numbers, whose white is unknown"
        raise ImageError(f"{name}: {what}", "Save it as an 8-bit PNG.")
    if not image.has_transparency_data:
        mode = {"1": "L", "L": "L"}.get(image.mode, "RGB")
        return image if image.mode == mode else image.convert(mode)
    grey = image.mode in ("1", "L", "LA", "La")
    white = Image.new("L" if grey else "RGB", image.size, "white")
    # In strips: each layer of a whole large image would take its memory again.
    step = max(1, _LAID // image.width)
    for top in range(0, image.height, step):
        box = (0, top, image.width, min(top + step, image.height))
        part = image if step >= image.height else image.crop(box)
        layers = part.convert("LA" if grey else "RGBA")
        white.paste(layers.getchannel("L") if grey else layers, box, layers.getchannel("A"))
    return white


class PnmDecoder(PpmImagePlugin.PpmDecoder):
    """P5 and P6 of any white: Pillow reads number by number in Python."""

    def decode(self, buffer: object) -> tuple[int, int]:  # noqa: ARG002  it reads by itself
        """Read the whole image."""
        maxval = self.args[-1]
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        kind = np.dtype(">u2" if maxval > 255 else np.uint8)
        content = self.fd.read(count * kind.itemsize)  # type: ignore[union-attr]
        values = np.frombuffer(content, kind, len(content) // kind.itemsize)
        most, dtype = (65535, "<i4") if self.mode == "I" else (255, "u1")
        raw = bytearray()
        for start in range(0, len(values), _LAID):
            block = np.minimum(values[start : start + _LAID], maxval)
            raw += np.rint(block / maxval * most).astype(dtype).tobytes()
        self.set_as_raw(bytes(raw), "I;32" if self.mode == "I" else self.mode)
        return -1, 0
