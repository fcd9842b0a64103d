"""Recognition of harmless JPEG and PNG files, by a bounded walk over their headers.

A decoder's time and memory depend on more than the size of an image: on segments, scans, chunks
and EXIF. A file with few of each, and nothing unusual, is decoded in this process; any other in a
sandbox (`opsin.data.images`), which gives the same pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

#: Pixels and bytes of the largest plain file.
_PIXELS: Final = 25_000_000
_BYTES: Final = 64 << 20
# Each scan of a progressive JPEG is a pass over the whole image.
_PASSED: Final = 300_000_000
# Cameras and editors write about twenty segments or chunks, half a megabyte with a colour profile.
_PARTS: Final = 64
_NOTES: Final = 1 << 20
# Entries of EXIF's first directory, and the bytes of one value of each type (TIFF 6.0, section 2).
_ENTRIES: Final = 64
_VALUE_BYTES: Final = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_ORIENTATION: Final = 0x0112
_SHORT: Final = 3

_EXIF: Final = b"Exif\0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_SEGMENT: Final = struct.Struct(">BBH")
_FRAME: Final = struct.Struct(">BHHB")
_CHUNK: Final = struct.Struct(">I4s")
_IHDR: Final = struct.Struct(">IIBBBBB")
# Baseline, extended and progressive JPEG with Huffman codes (ITU-T T.81, table B.1).
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE: Final = 0xC2
_SCAN: Final = 0xDA
_APP1: Final = 0xE1
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
    """Return the orientation in a JPEG's EXIF, or ``None`` if that is unusual."""
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
                sound = (
                    sound and exif_orientation(content[position : position + length]) is not None
                )
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
        orientation, held = 0, 0
        seen = set()
        entry = struct.Struct(order + "HHII")
        for position in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values, offset = entry.unpack_from(tiff, position)
            size = _VALUE_BYTES[kind] * values
            if not size or tag in seen:
                return None
            seen.add(tag)
            if size > 4:
                held += size
                if offset + size > len(tiff) or held > len(tiff):
                    return None
            if tag == _ORIENTATION:
                if kind != _SHORT or values != 1:
                    return None
                (orientation,) = struct.unpack_from(order + "H", tiff, position + 8)
    except (struct.error, IndexError):
        return None
    return orientation
