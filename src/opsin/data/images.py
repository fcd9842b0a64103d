"""Bytes become upright pixels: harmless files here, others in a sandbox, within limits."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from opsin.core.child_process import Header
from opsin.core.errors import ImageError, SandboxError
from opsin.core.files import open_regular
from opsin.core.metadata import Bits, Preparation
from opsin.core.platform import cores
from opsin.core.sandbox import Sandbox
from opsin.data import formats, network_pixels
from opsin.data.formats import MAX_BYTES, MAX_PIXELS, PlainFile, plain
from opsin.data.network_pixels import NO_CONTRAST, Upright, has_no_contrast, lies_on_other_side
from opsin.data.pixel_values import bits_needed, image_from_array, load_bytes
from opsin.stores.bucket import StoredObject

if TYPE_CHECKING:
    from typing_extensions import TypeIs


@dataclass(frozen=True, slots=True)
class PackedImage:
    """One of many images in a file, between two offsets."""

    file: str
    start: int
    end: int

    def read(self) -> bytes:
        """Return its bytes."""
        with open_regular(self.file) as packed:
            packed.seek(self.start)
            content = packed.read(self.end - self.start)
        if len(content) < self.end - self.start:
            raise ValueError("it has been cut short")
        return content


#: What can be read as an image: a file's name, content, or stream, a place, or pixels.
ImageFileLike = str | os.PathLike[str] | bytes | BinaryIO | StoredObject | PackedImage
ImageLike = ImageFileLike | Image.Image | NDArray[Any]

# How many times larger than the target a JPEG must stay when decoded at a fraction. At 1.9 the
# pixels differ by less than 1 of 255 on average from those of the whole image
# (docs/understand/measured.md). libjpeg-turbo takes longer for 5/8 to 7/8 than for the whole.
_SPARE, _EIGHTHS = 1.9, (1, 2, 4)
# Larger images are decoded one at a time. Reentrant: the same may be decoded small, then whole.
_LARGE, _one_large = 8_000_000, threading.RLock()
# Bytes of a stream read at once, and of rows per piece of an answer: Pillow keeps two copies.
_PIECE, _ROWS = 1 << 20, 8 << 20
# Limits of the sandbox: a file costs less than five seconds in all, and below 512 MB.
_SECONDS, _MEMORY = 3.0, 440 << 20


class _DamagedError(Exception):
    """A JPEG that looked plain and failed; Pillow decides whether it is readable."""


@dataclass(frozen=True)
class PreparedImage:
    """An image as the network takes it, with height, width and bits of its file."""

    name: str
    pixels: NDArray[np.uint8] = field(repr=False, compare=False)  # uint8[H, W, C]
    changes: tuple[str, ...] = ()
    height: int = 0
    width: int = 0
    depth: int = 0

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        """What was done to it; first of all, if so, that it has no contrast."""
        return (NO_CONTRAST, *self.changes) if has_no_contrast(self.pixels) else self.changes


def open_image(
    image: ImageLike, name: str | None = None, *, side: int | None = None
) -> Image.Image:
    """Decode an image and turn it upright, no side longer than ``side``."""
    name = name or _name_of(image)
    content = b"" if is_decoded(image) else content_of(image, name)
    here, stated = image if is_decoded(image) else content, plain(content)
    opened = None
    if stated is not None or is_decoded(image):
        with contextlib.suppress(_DamagedError), open_here(here, None, name, stated) as upright:
            opened = upright.image
    if opened is None:
        pixels, _ = open_apart(content, name, side=side)
        opened = image_from_array(pixels, name)[0]
    if side is not None:
        opened = opened.copy()  # an image of the caller's stays as large as it is
        opened.thumbnail((side, side))
    return opened


def open_apart(
    content: bytes, name: str = "the image", *, side: int | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Open an image in the sandbox; return its upright pixels and its format."""
    answer, pixels = _ask({"do": "open", "name": name, "side": side}, content)
    return np.frombuffer(pixels, np.uint8).reshape(answer["shape"]), answer["format"]


def _ask(header: Header, content: bytes) -> tuple[Header, bytes]:
    try:
        return _sandbox(os.getpid()).call(header, content)
    except SandboxError as error:
        problem = f"{header['name']}: {error.message}"
        raise ImageError(problem, "Leave it out, or save it again with another program.") from error


@functools.cache
def _sandbox(owner: int) -> Sandbox:  # noqa: ARG001  a fork must not share locks and pipes
    task = "opsin.data.images:decode_apart"
    return Sandbox(task, seconds=_SECONDS, memory=_MEMORY, processes=min(8, cores()))


def decode_apart(header: Header, content: bytes) -> tuple[Header, Sequence[bytes]]:
    """Prepare a file, open it, or read its header, in the sandbox's process."""
    from PIL import AvifImagePlugin  # noqa: PLC0415  its setting is for this process alone

    # Each thread would reserve memory beyond this process's limit.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.register_decoder("ppm", formats.PnmDecoder)
    name = header["name"]
    if header["do"] == "prepare":
        preparation = Preparation.model_validate(header["preparation"])
        made = prepare_here(content, preparation, name, match=header["match"])
        rest = made.changes, made.height, made.width, made.depth
        return {"rest": rest}, [made.pixels.tobytes()]
    if header["do"] == "read_header":
        return {"seen": read_header_here(content, name)}, []
    with explained(name):
        kind = formats.open_header(content, name).format
    with open_here(content, None, name) as upright:
        image = upright.image
        if header["side"] is not None:
            image.thumbnail((header["side"], header["side"]))
        shape = (image.height, image.width, len(image.getbands()))
        step = max(1, _ROWS // (image.width * shape[2]))
        return {"format": kind, "shape": shape}, [
            np.asarray(image.crop((0, top, image.width, min(top + step, image.height)))).tobytes()
            for top in range(0, image.height, step)
        ]


def read_image(
    image: ImageLike, preparation: Preparation, name: str | None = None
) -> NDArray[np.uint8]:
    """Decode an image into the network's pixels, its background unchanged."""
    return prepare(image, preparation, name, match=False).pixels


def prepare(
    image: ImageLike, preparation: Preparation, name: str | None = None, *, match: bool = True
) -> PreparedImage:
    """Make the network's pixels of an image, here or in the sandbox."""
    name = name or _name_of(image)
    if is_decoded(image):
        return prepare_here(image, preparation, name, match=match)
    content = content_of(image, name)
    stated = plain(content)
    if stated is not None:
        with contextlib.suppress(_DamagedError):
            return prepare_here(content, preparation, name, match=match, stated=stated)
    stated_as = preparation.model_dump(mode="json")
    header = {"do": "prepare", "name": name, "match": match, "preparation": stated_as}
    answer, pixels = _ask(header, content)
    changes, *rest = answer["rest"]
    # A copy, because the caller may write into it.
    copy = np.frombuffer(pixels, np.uint8).reshape(preparation.shape).copy()
    return PreparedImage(name, copy, tuple(changes), *rest)


def prepare_here(
    image: bytes | Image.Image | NDArray[Any],
    preparation: Preparation,
    name: str,
    *,
    match: bool,
    stated: PlainFile | None = None,
) -> PreparedImage:
    """Run `prepare` in this process."""
    with open_here(image, preparation, name, stated) as upright:
        notes = (upright.note,) if upright.note else ()
        pixels, background = network_pixels.to_pixels(upright, preparation), preparation.background
        ready = PreparedImage(name, pixels, notes, upright.height, upright.width, upright.depth)
        if not (match and background and lies_on_other_side(upright.image, background)):
            return ready
        # The subject is cut out, at full resolution.
        less = upright.eighths < 8
        again = open_here(image, None, name, stated) if less else contextlib.nullcontext(upright)
        with again as complete:
            matched = network_pixels.match_background(complete.image, preparation)
    if matched is None:
        return ready
    return replace(ready, pixels=matched[0], changes=(*notes, matched[1]))


def read_header(image: ImageLike, name: str | None = None) -> tuple[int, int, bool]:
    """Return an image's upright height and width, and whether it is in colour, by its header."""
    name = name or _name_of(image)
    if is_decoded(image):
        decoded = open_image(image, name)
        return decoded.height, decoded.width, decoded.mode != "L"
    content = content_of(image, name)
    if plain(content) is not None:
        return read_header_here(content, name)
    answer, _ = _ask({"do": "read_header", "name": name}, content)
    height, width, colour = answer["seen"]
    return height, width, colour


def read_header_here(content: bytes, name: str) -> tuple[int, int, bool]:
    """Run `read_header` in this process."""
    with explained(name):
        header = formats.open_header(content, name)
        turned = formats.orientation_of(header) >= 5
        width, height = header.size[::-1] if turned else header.size
        grey = header.mode in formats.GREY or header.mode.startswith("I")
        return height, width, not grey


def content_of(image: ImageFileLike, name: str) -> bytes:
    """Return an image file's bytes."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)  # which copies no bytes
    content: bytes | None = None
    try:
        if isinstance(image, str | os.PathLike):
            with open_regular(image, buffering=0) as stream:  # twice as quick
                content = _all_of(stream, os.fstat(stream.fileno()).st_size)
        elif isinstance(image, StoredObject):
            from opsin.stores.bucket import open_bucket  # noqa: PLC0415  few read a store

            # Too large an object is not requested.
            if image.size <= MAX_BYTES:
                content = open_bucket(image).content(image, MAX_BYTES + 1)
        elif isinstance(image, PackedImage):
            content = image.read()
        elif callable(getattr(image, "read", None)):
            if image.seekable():
                image.seek(0)
            content = _all_of(image)
            if not isinstance(content, bytes):
                raise ImageError(f"{name} was opened for text", "Open it so: open(name, 'rb')")
        else:
            raise ImageError(
                f"{name} is of type {type(image).__name__}; a file's name, bytes, an open file, a "
                "Pillow image or an array is expected"
            )
    except (OSError, ValueError) as error:  # ValueError: NUL in a name, or a closed file
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{name}: {reason.lower()}") from error
    if content is None or len(content) > MAX_BYTES:
        raise ImageError(f"{name}: larger than {MAX_BYTES // 1_000_000} MB")
    return content


@contextlib.contextmanager
def open_here(
    image: bytes | Image.Image | NDArray[Any],
    preparation: Preparation | None,
    name: str,
    stated: PlainFile | None = None,
) -> Iterator[Upright]:
    """Decode an image in this process and turn it upright, for the duration of the block."""
    bits = preparation.bits if preparation else None
    with contextlib.ExitStack() as stack:
        with explained(name):  # a tensor on another device, say
            if isinstance(image, Image.Image):
                opened = _whole(image, name, bits)
            elif is_decoded(image):
                array = np.asarray(image)
                decoded, note = image_from_array(array, name, bits)
                deep = array.dtype.kind in "iu" and array.dtype.itemsize > 1
                depth = bits_needed(int(array.max())) if deep else 0
                opened = Upright.whole(formats.grey_or_rgb(decoded, name), note, depth)
            else:
                opened = _decoded(image, preparation, name, stated, stack)
        yield opened


def _decoded(
    content: bytes,
    preparation: Preparation | None,
    name: str,
    stated: PlainFile | None,
    stack: contextlib.ExitStack,
) -> Upright:
    # A simple JPEG by simplejpeg, at a fraction of its size; others by Pillow, whose parsing of
    # headers takes as long as the pixels of a plain JPEG.
    header = None
    if stated is not None and stated.kind == "JPEG":
        size, grey, passes = (stated.width, stated.height), stated.channels == 1, stated.passes
        jpeg, orientation = True, stated.orientation
    else:
        header = formats.open_header(content, name)
        size, grey, passes = header.size, header.mode == "L", bool(header.info.get("progressive"))
        jpeg = header.format == "JPEG" and header.mode in ("L", "RGB")
        orientation = formats.orientation_of(header) if jpeg else 1
    eighths, simple = 8, jpeg and formats.is_simple_jpeg(content, size, grey=grey)
    width, height = size[::-1] if orientation >= 5 else size
    if simple and preparation and min(size) >= 8:  # an eighth of less is no whole pixel
        inner, (left, top, right, bottom) = network_pixels.placement(width, height, preparation)
        spare = min((right - left) / inner[0], (bottom - top) / inner[1])
        eighths = next((n for n in _EIGHTHS if spare * n / 8 >= _SPARE), 8)
    # A progressive JPEG's coefficients are all kept in memory, at any scale.
    if width * height * (8 if passes else eighths) ** 2 // 64 > _LARGE:
        stack.enter_context(_one_large)
    stored = formats.decode_jpeg(content, size, eighths, grey=grey) if simple else None
    if stored is not None:
        image = formats.upright(stored, orientation)
        beside = image.width - width * eighths / 8 if orientation in formats.TURN_LEFT else 0
        above = image.height - height * eighths / 8 if orientation in formats.TURN_TOP else 0
        return Upright(image, width, height, eighths, beside, above)
    if header is None:
        raise _DamagedError
    return _whole(header, name, preparation.bits if preparation else None, content)


def _whole(
    image: Image.Image, name: str, bits: Bits | None, content: bytes | None = None
) -> Upright:
    again = None if content is None else functools.partial(formats.open_header, content, name)
    shallow, note, depth = load_bytes(image, bits, content, again)
    # After the pixels: a PNG may store its EXIF data behind them.
    orientation = formats.orientation_of(image)
    flat = formats.upright(formats.grey_or_rgb(shallow, name), orientation)
    return Upright.whole(flat, note, depth)


def _name_of(image: ImageLike) -> str:
    if isinstance(image, StoredObject):
        return str(image.address)
    return str(image) if isinstance(image, str | os.PathLike) else "the image"


def _all_of(stream: io.RawIOBase | BinaryIO, size: int = _PIECE) -> bytes:
    # Or just beyond the limit, without holding two copies.
    first: bytes = stream.read(min(size, MAX_BYTES) + 1)
    if len(first) > MAX_BYTES or not (piece := stream.read(_PIECE)):
        return first
    held = io.BytesIO()
    held.write(first)
    while piece and held.tell() <= MAX_BYTES:
        held.write(piece)
        piece = stream.read(_PIECE)
    return held.getvalue()


def is_decoded(image: object) -> TypeIs[Image.Image | NDArray[Any]]:
    """Tell whether an object is a Pillow image or array-like, such as a tensor."""
    return isinstance(image, Image.Image) or hasattr(image, "__array__")


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn any error of a decoder into an `ImageError` that names the image."""
    try:
        yield
    except (ImageError, _DamagedError):
        raise
    except Exception as error:
        bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
        reason = (
            "no image of a known format"
            if isinstance(error, UnidentifiedImageError)
            else f"more than {MAX_PIXELS // 1_000_000} million pixels"
            if isinstance(error, bombs)
            else "the file is cut short"
            if isinstance(error, EOFError) or "truncated" in str(error)
            else "too large for the memory"
            if isinstance(error, MemoryError)
            else f"damaged ({type(error).__name__})"
        )
        advice = "Save it again with another program, or leave it out."
        raise ImageError(f"{name}: {reason}", advice) from error
