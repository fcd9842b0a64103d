"""Recognition of harmless JPEG and PNG files, by a bounded walk over their headers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

#: Pixels and bytes of the largest plain file. Each scan of a progressive JPEG is a pass over the
#: whole image.
_PIXELS, _BYTES, _PASSED = 25_000_000, 64 << 20, 300_000_000
# Cameras and editors write about twenty segments or chunks, half a megabyte with a colour profile.
_PARTS, _NOTES = 64, 1 << 20
# Entries of EXIF's first directory, and the bytes of one value of each type (TIFF 6.0, section 2).
_ENTRIES, _VALUE_BYTES = 64, (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_ORIENTATION, _SHORT = 0x0112, 3

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
