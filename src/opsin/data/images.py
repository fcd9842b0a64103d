"""Bytes become upright pixels of one size: for training and prediction alike."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from opsin.data import formats
from opsin.data.apart import Opened, open_apart
from opsin.data.array_image import image_from_array
from opsin.data.formats import FORMATS, MAX_BYTES, MAX_PIXELS, SUFFIXES
from opsin.errors import ImageError
from opsin.metadata import Preparation

if TYPE_CHECKING:
    from typing_extensions import TypeIs

__all__ = [
    "FORMATS", "MAX_BYTES", "MAX_PIXELS", "SUFFIXES", "ImageLike", "Opened", "Upright",
    "content_of", "explained", "is_decoded", "look_at", "open_apart", "open_image", "open_upright",
    "read_image", "read_sized", "to_pixels",
]  # fmt: skip

ImageLike = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[Any]

# How many times larger than wanted a JPEG must stay where less than all of it is decoded. Measured:
# at 1.9 the pixels differ by less than 1 of 255 on average from those of the whole picture
# (docs/performance.md). Only halves are used: libjpeg-turbo takes longer for 5/8 to 7/8 than for
# the whole.
_SPARE: Final = 1.9
_EIGHTHS: Final = (1, 2, 4)
# Of pictures that take more memory than this many pixels, one is decoded at a time.
_LARGE: Final = 8_000_000
_one_large = threading.Lock()
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Upright:
    """A picture that stands upright, decoded whole or at a fraction of its size.

    Args:
        image: Mode ``L`` (grey) or ``RGB``; transparent parts have become white.
        width: Of the whole picture.
        height: Of the whole picture.
        eighths: ``image`` has this many eighths of width and height, rounded up.
        left: Where in ``image`` the picture begins: what was added by rounding up lies at the far
            ends, unless those came to the left or to the top when it was turned.
        top: Likewise.
        note: What an array's numbers were taken for, where they were not ``uint8``.
    """

    image: Image.Image
    width: int
    height: int
    eighths: int = 8
    left: float = 0
    top: float = 0
    note: str | None = None

    @classmethod
    def whole(cls, image: Image.Image, note: str | None = None) -> Upright:
        """Describe a picture that was decoded whole."""
        return cls(image, image.width, image.height, note=note)


def open_image(image: ImageLike, name: str | None = None) -> Image.Image:
    """Decode a picture and turn it upright.

    Args:
        image: A file's name, its bytes, an open file, a Pillow image, or an array ``[H, W]``,
            ``[H, W, 1]``, ``[H, W, 3]`` or ``[H, W, 4]``; its numbers are whole, from 0 (black)
            to 255 (white), fractions from 0 to 1, or ``bool``.
        name: What to call it in an error (default: the file's name).

    Returns:
        An image of mode ``L`` (grey) or ``RGB``; transparent parts have become white.

    Raises:
        ImageError: It cannot be read; the error names the file and the reason.

    Example:
        >>> open_image(np.zeros((4, 6), np.uint8)).size
        (6, 4)
    """
    with open_upright(image, name=name) as picture:
        return picture.image


def read_image(
    image: ImageLike, preparation: Preparation, name: str | None = None
) -> NDArray[np.uint8]:
    """Decode a picture into the network's pixels: `open_upright`, then `to_pixels`.

    Returns:
        ``uint8[height, width, channels]``

    Raises:
        ImageError: It cannot be read.
    """
    return read_sized(image, preparation, name)[0]


def read_sized(
    image: ImageLike, preparation: Preparation, name: str | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Do as `read_image`, and return the upright picture's own height and width too.

    Raises:
        ImageError: It cannot be read.
    """
    with open_upright(image, preparation, name) as picture:
        return to_pixels(picture, preparation), (picture.height, picture.width)


def look_at(image: ImageLike, name: str | None = None) -> tuple[int, int, bool]:
    """Return a picture's upright height and width and whether it has colours, by its header.

    Raises:
        ImageError: It is no picture of a known format, or too large.
    """
    name = name or _name_of(image)
    if is_decoded(image):
        picture = open_image(image, name)
        return picture.height, picture.width, picture.mode != "L"
    with explained(name):
        header = formats.open_header(content_of(image, name), name)
        width, height = _upright_size(header)
        return height, width, not formats.is_grey(header)


def content_of(image: str | os.PathLike[str] | bytes | BinaryIO, name: str) -> bytes:
    """Return a picture file's bytes.

    Raises:
        ImageError: There is no such file, or it is too large, or ``image`` is nothing of the kind.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if not isinstance(image, str | os.PathLike) and not callable(getattr(image, "read", None)):
        raise _no_image(image, name)
    try:
        if isinstance(image, str | os.PathLike):
            with open(image, "rb", buffering=0) as stream:  # noqa: PTH123  twice as quick
                pieces = _pieces(stream)
        else:
            if image.seekable():
                image.seek(0)
            pieces = _pieces(image)
            if not all(isinstance(piece, bytes) for piece in pieces):
                raise ImageError(
                    "a file opened for reading bytes", f"{name} was opened for text",
                    "Open it so: open(name, 'rb')",
                )  # fmt: skip
    except (OSError, ValueError) as error:  # ValueError: NUL in a name, or a closed file
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ImageError("a picture", f"{name}: {reason}", "Check the name.") from error
    content = b"".join(pieces)
    if len(content) > MAX_BYTES:
        raise ImageError(
            f"a picture file of at most {MAX_BYTES // 1_000_000} MB",
            f"{name} is larger",
            "Make it smaller first.",
        )
    return content


@contextlib.contextmanager
def open_upright(
    image: ImageLike, preparation: Preparation | None = None, name: str | None = None
) -> Iterator[Upright]:
    """Decode a picture and turn it upright, for as long as the block lasts.

    Of a JPEG that is much larger than a preparation asks for, no more is decoded than its pixels
    need. The block should be short: while a very large picture is open, others of its kind wait.

    Args:
        image: What `open_image` takes.
        preparation: What the picture is wanted for (default: decode it whole).
        name: What to call it in an error (default: the file's name).

    Raises:
        ImageError: It cannot be read.
    """
    name = name or _name_of(image)
    if not isinstance(image, Image.Image) and is_decoded(image):
        with explained(name):  # a tensor on another device, say
            array = np.asarray(image)
        picture, note = image_from_array(array, name)
        yield Upright.whole(formats.grey_or_rgb(picture, name), note)
        return
    if isinstance(image, Image.Image):
        with explained(name):
            whole = _whole(image, name)
        yield whole
        return
    content = content_of(image, name)
    with contextlib.ExitStack() as stack:
        with explained(name):
            header = formats.open_header(content, name)
            eighths, pixels = 8, header.width * header.height
            simple = formats.is_simple_jpeg(header, content)
            if simple and preparation:
                eighths = _fewest_eighths(*_upright_size(header), preparation)
            # A progressive JPEG's coefficients are kept whole, whatever is made of them.
            if not header.info.get("progressive"):
                pixels = pixels * eighths**2 // 64
            if pixels > _LARGE:
                stack.enter_context(_one_large)
            scaled = _from_jpeg(content, header, eighths) if simple else None
            opened = scaled or _whole(header, name)
        yield opened


def to_pixels(picture: Upright | Image.Image, preparation: Preparation) -> NDArray[np.uint8]:
    """Resize an upright picture and convert it to grey or colour.

    ``fit`` keeps the whole picture and fills the rest with the colour of its border, ``fill``
    cuts what stands out, ``squash`` stretches. Shrinking averages over the pixels it covers
    (Pillow's bilinear filter), so that thin lines survive.

    Returns:
        ``uint8[height, width, channels]``
    """
    if isinstance(picture, Image.Image):
        picture = Upright.whole(picture)
    image, mode = picture.image, "L" if preparation.channels == 1 else "RGB"
    if image.mode != mode:  # converting to its own mode would copy it
        image = image.convert(mode)
    size = (preparation.width, preparation.height)
    if picture.eighths < 8 or image.size != size:
        inner, box = _placement(picture.width, picture.height, preparation)
        left, top, right, bottom = (side * picture.eighths / 8 for side in box)
        x, y = picture.left, picture.top
        within = (x + left, y + top, x + right, y + bottom)
        image = image.resize(inner, Image.Resampling.BILINEAR, within)
    pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
    return pixels if image.size == size else _filled(pixels, preparation)


def _filled(pixels: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
    """Lay pixels into the middle of a picture that has the colour of their border."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    middle = len(edge) // 2
    line = np.tile(np.partition(edge, middle, axis=0)[middle], preparation.width)
    whole = np.empty((preparation.height, preparation.width, pixels.shape[2]), np.uint8)
    # Line by line: three bytes at a time would take as long as reading the file.
    whole.reshape(preparation.height, -1)[:] = line
    top = (whole.shape[0] - pixels.shape[0]) // 2
    left = (whole.shape[1] - pixels.shape[1]) // 2
    whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole


def _placement(
    width: int, height: int, preparation: Preparation
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """Say which part of a picture becomes how large.

    Returns:
        Width and height of the result without its filling, and the part of the picture that it
        is made from: left, top, right, bottom.
    """
    wide, high = preparation.width, preparation.height
    everything = (0.0, 0.0, float(width), float(height))
    match preparation.resize:
        case "fit":
            scale = min(wide / width, high / height)
            # A line a thousand times as long as it is thick is still there.
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
            return inner, everything
        case "fill":
            scale = max(wide / width, high / height)
            left = max(0.0, (width - wide / scale) / 2)
            top = max(0.0, (height - high / scale) / 2)
            return (wide, high), (left, top, width - left, height - top)
        case "squash":
            return (wide, high), everything


def _fewest_eighths(width: int, height: int, preparation: Preparation) -> int:
    """Choose at what fraction of its size an upright JPEG is decoded."""
    inner, (left, top, right, bottom) = _placement(width, height, preparation)
    spare = min((right - left) / inner[0], (bottom - top) / inner[1])
    if min(width, height) < 8:  # an eighth of these is no whole pixel
        return 8
    return next((n for n in _EIGHTHS if spare * n / 8 >= _SPARE), 8)


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    """Return width and height once it is turned upright."""
    width, height = picture.size
    return (height, width) if formats.orientation_of(picture) >= 5 else (width, height)


def _from_jpeg(content: bytes, header: ImageFile.ImageFile, eighths: int) -> Upright | None:
    stored = formats.decode_jpeg(content, header, eighths)
    if stored is None:
        return None
    orientation = formats.orientation_of(header)
    image, (width, height) = formats.upright(stored, orientation), _upright_size(header)
    left = image.width - width * eighths / 8 if orientation in formats.TURN_LEFT else 0
    top = image.height - height * eighths / 8 if orientation in formats.TURN_TOP else 0
    return Upright(image, width, height, eighths, left, top)


def _whole(picture: Image.Image, name: str) -> Upright:
    """Decode all of a picture with Pillow."""
    picture.load()
    # After the pixels: a PNG may bring its EXIF data behind them.
    orientation = formats.orientation_of(picture)
    return Upright.whole(formats.upright(formats.grey_or_rgb(picture, name), orientation))


def _name_of(image: ImageLike) -> str:
    return str(image) if isinstance(image, str | os.PathLike) else "the picture"


def _pieces(stream: io.RawIOBase | BinaryIO) -> list[bytes]:
    """Read a stream to its end, or a little beyond the limit."""
    pieces: list[bytes] = []
    while sum(map(len, pieces)) <= MAX_BYTES and (piece := stream.read(_PIECE)):
        pieces.append(piece)
    return pieces


def is_decoded(image: object) -> TypeIs[Image.Image | NDArray[Any]]:
    """Tell a Pillow image, an array, or what NumPy takes for one, such as a tensor."""
    return isinstance(image, Image.Image) or hasattr(image, "__array__")


def _no_image(given: object, name: str) -> ImageError:
    """Return what is said of an object that cannot be an image."""
    several = isinstance(given, list | tuple)
    return ImageError(
        "an image: a file's name, bytes, an open file, a Pillow image or an array",
        f"{name} is {'None' if given is None else f'of type {type(given).__name__}'}",
        "Give them one by one, or the list to Classifier.predict."
        if several
        else "Give one of these.",
    )


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line that names the picture."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(
            "a readable picture",
            f"{name}: {_reason(error)}",
            "Open it in a viewer and save it again, or leave it out.",
        ) from error


def _reason(error: Exception) -> str:
    """Say in a few words why a decoder gave up."""
    if isinstance(error, UnidentifiedImageError):
        return "no picture of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {MAX_PIXELS // 1_000_000} million pixels"
    if isinstance(error, EOFError) or "truncated" in str(error):
        return "the file is cut short"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    return f"damaged ({type(error).__name__})"
