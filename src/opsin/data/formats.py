"""Image files: what may be opened, what is plainly harmless, and how it becomes grey or colour."""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
from collections.abc import Sequence
from types import ModuleType
from typing import Final, NamedTuple

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
#: Pillow's modes of grey images of 8 bits or less.
GREY: Final = ("1", "L", "LA", "La")
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


def grey_or_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert Pillow's modes of 8 bits to ``L`` or ``RGB``, transparent parts to white."""
    if image.mode == "F":
        what = "holds floating-point numbers, whose white is unknown"
        raise ImageError(f"{name}: {what}", "Save it as an 8-bit PNG.")
    mode = "L" if (grey := image.mode in GREY) else "RGB"
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    white = Image.new(mode, image.size, "white")
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


# Plain files: JPEG and PNG whose headers are harmless, found by a bounded walk over them.

#: Pixels and bytes of the largest plain file. Each scan of a progressive JPEG is a pass over the
#: whole image.
_PIXELS, _BYTES, _PASSED = 25_000_000, 64 << 20, 300_000_000
# Cameras and editors write about twenty segments or chunks, half a megabyte with a colour profile.
_PARTS, _NOTES = 64, 1 << 20
# Entries of EXIF's first directory, and the bytes of one value of each type (TIFF 6.0, section 2).
_ENTRIES, _VALUE_BYTES = 64, (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_SHORT: Final = 3

_EXIF: Final = b"Exif\0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_SEGMENT, _FRAME, _CHUNK, _IHDR = map(struct.Struct, (">BBH", ">BHHB", ">I4s", ">IIBBBBB"))
# Baseline, extended and progressive JPEG with Huffman codes (ITU-T T.81, table B.1).
_FRAMES, _PROGRESSIVE, _SCAN, _APP1 = {0xC0, 0xC1, 0xC2}, 0xC2, 0xDA, 0xE1
# Tables, restart intervals, applications' segments and comments.
_CARRIED: Final = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})
# Animation: more than one image; an older way to write EXIF.
_UNUSUAL: Final = frozenset({b"acTL", b"fcTL", b"fdAT"})
_OLD_EXIF: Final = (b"Raw profile type exif\0", b"exif\0")


class PlainFile(NamedTuple):
    """The header of a plain file."""

    kind: str
    width: int
    height: int
    channels: int = 0
    orientation: int = 0
    passes: bool = False


def plain(content: bytes) -> PlainFile | None:
    r"""Return the header of a JPEG or PNG, or ``None`` if it is not plainly harmless."""
    if len(content) > _BYTES:
        return None
    try:
        if content[:2] == b"\xff\xd8":
            return _plain_jpeg(content)
        if content[:16] == _PNG:
            return _plain_png(content)
    except (struct.error, IndexError):  # cut short
        pass
    return None


def _plain_jpeg(content: bytes) -> PlainFile | None:
    position, frames, notes = 2, [], []
    for _ in range(_PARTS):
        mark, marker, length = _SEGMENT.unpack_from(content, position)
        if mark != 0xFF or length < 2 or position > _NOTES:
            return None
        if marker == _SCAN:
            break
        if marker in _FRAMES:
            frames.append((marker, position + 4))
        elif marker == _APP1:
            notes.append(content[position + 4 : position + 2 + length])
        elif marker not in _CARRIED:
            return None
        position += 2 + length
    else:
        return None
    orientation = _noted_orientation(notes) if notes else 1
    if len(frames) != 1 or orientation is None:
        return None
    kind, start = frames[0]
    bits, height, width, channels = _FRAME.unpack_from(content, start)
    if bits != 8 or channels not in (1, 3) or not 0 < width * height <= _PIXELS:
        return None
    passes = kind == _PROGRESSIVE or content[position + 4] != channels
    # Outside a marker, the byte FF is always followed by 00.
    if passes and content.count(b"\xff\xda") * width * height > _PASSED:
        return None
    return PlainFile("JPEG", width, height, channels, orientation, passes)


def _noted_orientation(notes: Sequence[bytes]) -> int | None:
    exif = [note[len(_EXIF) :] for note in notes if note.startswith(_EXIF)]
    if len(exif) > 1:  # Pillow joins them
        return None
    stated = exif_orientation(exif[0]) if exif else 0
    if stated == 0 and any(note.startswith(_XMP) and b"Orientation" in note for note in notes):
        return None
    return stated if stated is None or 1 <= stated <= 8 else 1


def _plain_png(content: bytes) -> PlainFile | None:
    width, height, bits, _, compression, filters, _ = _IHDR.unpack_from(content, 16)
    if bits > 8 or compression or filters or not 0 < width * height <= _PIXELS:
        return None
    if max(width, height) > 0xFFFF:
        return None
    # Encoders write the pixels in pieces of kilobytes.
    pieces = _PARTS + len(content) // 1024
    position, parts, notes, pixels, sound = 33, 0, 0, 0, True
    while sound:
        length, kind = _CHUNK.unpack_from(content, position)
        position += 8
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            pixels += 1
            sound = pixels <= pieces
        else:
            parts += 1
            notes += length
            sound = parts <= _PARTS and notes <= _NOTES and kind not in _UNUSUAL
            if kind == b"eXIf":
                exif = content[position : position + length]
                sound = sound and exif_orientation(exif) is not None
            elif kind in (b"tEXt", b"zTXt", b"iTXt"):
                sound = sound and not content.startswith(_OLD_EXIF, position)
        position += length + 4
    return PlainFile("PNG", width, height) if sound and pixels else None


def exif_orientation(tiff: bytes) -> int | None:
    r"""Return the orientation in EXIF data: 0 if absent, ``None`` if unusual."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        if count > _ENTRIES or start + 2 + 12 * count + 4 > len(tiff):
            return None
        orientation, held, seen, entry = 0, 0, set(), struct.Struct(order + "HHII")
        for position in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values, offset = entry.unpack_from(tiff, position)
            size = _VALUE_BYTES[kind] * values
            if not size or tag in seen:
                return None
            seen.add(tag)
            held += size if size > 4 else 0
            if held > len(tiff) or (size > 4 and offset + size > len(tiff)):
                return None
            if tag == _ORIENTATION:
                if kind != _SHORT or values != 1:
                    return None
                (orientation,) = struct.unpack_from(order + "H", tiff, position + 8)
    except (struct.error, IndexError):
        return None
    return orientation
