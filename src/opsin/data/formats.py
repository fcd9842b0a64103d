"""Image files: what may be opened, and how it becomes grey or colour."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable
from types import ModuleType
from typing import IO, Final

import simplejpeg
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PcxImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
    features,
)

from opsin.core.errors import ImageError

_OPENERS: Final[dict[str, Callable[[IO[bytes], str], ImageFile.ImageFile]]] = {
    # Its class itself: the usual opener also looks for further images behind the first.
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    **({"AVIF": AvifImagePlugin.AvifImageFile} if AvifImagePlugin.SUPPORTED else {}),
    **({"JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile} if features.check_codec("jpg_2000") else {}),
    "ICO": IcoImagePlugin.IcoImageFile,
    "PCX": PcxImagePlugin.PcxImageFile,
    # Last: its header says little that other files could not.
    "TGA": TgaImagePlugin.TgaImageFile,
}
#: What may be decoded. A list, because Pillow knows formats that can start other programs.
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
_HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_TGA_END: Final = b"TRUEVISION-XFILE.\0"

#: Pixels of the largest image that is opened; more is taken for a decompression bomb.
MAX_PIXELS: Final = 80_000_000
#: Bytes of the largest file that is read.
MAX_BYTES: Final = 200_000_000
# Pixels that are laid over white at a time.
_LAID: Final = 4_000_000

# Numbers of entries in EXIF data and TIFF files.
_ORIENTATION, _TILE_WIDTH, _TILE_HEIGHT = 0x0112, 0x0142, 0x0143
# EXIF's orientations, and what turns the stored image upright (TIFF 6.0, tag 274).
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Orientations whose turn brings a far end of the stored image to the left, and to the top.
TURN_LEFT: Final = (2, 3, 6, 7)
TURN_TOP: Final = (3, 4, 7, 8)


def open_header(content: bytes, name: str) -> ImageFile.ImageFile:
    """Read a file's format and size without decoding it."""
    for kind, opener in _OPENERS.items():
        accept = Image.OPEN[kind][1]
        if accept is None:  # a TGA is told by its footer or, since old ones have none, by its name
            accepted: object = content.endswith(_TGA_END) or name.lower().endswith(".tga")
        else:
            accepted = accept(content[:16])
        # A string means that this build of Pillow lacks the format.
        if accepted is not True:
            continue
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
            header = opener(io.BytesIO(content), "")
            _check_limits(header, name)
            return header
    if not is_heif(content):
        raise UnidentifiedImageError(name)
    reader = heif_reader()
    if reader is None:
        raise ImageError(f"{name}: {NEEDS_HEIF}", "Install it, or save the image as JPEG.")
    image: ImageFile.ImageFile = reader.HeifImageFile(io.BytesIO(content), "")
    _check_limits(image, name)
    return image


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
        millions = MAX_PIXELS // 1_000_000
        raise ImageError(
            f"{name}: {width:,} × {height:,} pixels; at most {millions} million are read"
        )


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
        raise ImageError(
            f"{name}: holds floating-point numbers, whose white is unknown",
            "Save it as an 8-bit PNG.",
        )
    if image.has_transparency_data:
        return _opaque(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _opaque(image: Image.Image) -> Image.Image:
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
