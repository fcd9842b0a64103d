"""Images made to take time or memory: each costs one answer, and no more memory than is allowed."""

import io
import json
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from opsin.core.metadata import Background, Preparation
from tests.data.test_formats import chunk, png as png_of_rows, tiff
from tests.processes import python

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS")

# What the process that asks may take beyond what Opsin takes anyway.
_ALLOWED = 512 << 20
_CHILD = """
import json, resource, sys
from pathlib import Path
from opsin.data.images import read_header, prepare
from opsin.core.errors import ImageError
from opsin.core.metadata import Preparation

preparation = Preparation.model_validate_json(sys.argv[1])
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for file in sys.argv[3:]:
    said = []
    for ask in (read_header, lambda path: prepare(path, preparation)):
        try:
            answer = ask(Path(file))
            said.append("read")
        except ImageError as error:
            said.append(str(error))
    print(json.dumps(said), flush=True)
"""
DARK = Preparation(
    height=64, width=64, channels=3, resize="fit",
    background=Background(level=0, share=1.0, fill=0.5, contrast=200.0),
)  # fmt: skip


def png(width: int, height: int, *before: bytes, colour: int = 0, pixel: bytes = b"\xff") -> bytes:
    """Write a PNG of one colour; ``before``: further chunks."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" + pixel * width
    rows = max(1, (1 << 20) // len(row))
    packed = b"".join(
        packer.compress(row * min(rows, height - top)) for top in range(0, height, rows)
    )
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *before,
            chunk(b"IDAT", packed + packer.flush()),
            chunk(b"IEND", b""),
        ]
    )


def answers(content: bytes, folder: Path, preparation: Preparation = DARK) -> list[Any]:
    """Return what a process with little memory says to an image's header and to its pixels."""
    file = folder / "hostile"
    file.write_bytes(content)
    done = python(
        "-W", "error", "-c", _CHILD, preparation.model_dump_json(), _ALLOWED, file, check=False
    )
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert isinstance(said, list)
    return said


def speck(width: int, height: int) -> bytes:
    """A light image with a dark line through its middle: something to cut out."""
    rows = bytearray()
    for row in range(height):
        dark = height // 3 <= row <= height // 2 or height == 1
        line = bytearray(b"\xff" * width)
        if dark:
            line[width // 3 : width // 2 + 1] = bytes(width // 2 + 1 - width // 3)
        rows += b"\0" + line
    return png_of_rows(width, height, 8, 0, bytes(rows))


SHAPES: dict[str, Callable[[], bytes]] = {
    "tall": lambda: speck(1, 60_000), "wide": lambda: speck(60_000, 1),
    "very wide": lambda: speck(4_000_000, 2), "large": lambda: speck(5000, 4900),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_takes_the_memory_of_a_square(shape: str, tmp_path: Path) -> None:
    assert answers(SHAPES[shape](), tmp_path) == ["read", "read"]


def jpeg(*segments: bytes, scan: bytes = b"") -> bytes:
    """Write a grey JPEG of 8 × 8 pixels; ``segments`` come first."""
    stream = io.BytesIO()
    Image.new("L", (8, 8), 200).save(stream, "JPEG")
    content = stream.getvalue()
    return b"".join((content[:2], *segments, content[2:-2], scan, content[-2:]))


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    """Write a BMP of 8 bits in run-length code, which Pillow decodes in Python."""
    start = 14 + 40 + 1024
    about = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    head = b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start)
    return head + about + bytes(1024) + runs


def gif(*extensions: bytes) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8), 200).save(stream, "GIF")
    content = stream.getvalue()
    start = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    return b"".join((content[:start], *extensions, content[start:]))


_EXIF = b"Exif\0\0II*\0\x08\0\0\0"
_GREY = ((256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1))

FILES: dict[str, Callable[[], bytes]] = {
    "JPEG of EXIF segments": lambda: jpeg(*[segment(0xE1, _EXIF + bytes(65_000))] * 700),
    "JPEG of profiles": lambda: jpeg(*[segment(0xE2, b"ICC_PROFILE\0\1\1")] * 1_000_000),
    "JPEG whose EXIF has one long value many times": lambda: jpeg(
        segment(0xE1, _EXIF + struct.pack("<H", 4000) + b"".join(
            struct.pack("<HHII", 0x8000 + tag, 7, 60_000, 8) for tag in range(4000)
        ) + bytes(16_000))
    ),
    "JPEG of scans": lambda: progressive(4000, 4000, scans=190),
    "PNG of empty chunks": lambda: png(8, 8, chunk(b"quIt", b"") * 4_000_000),
    "PNG of texts": lambda: png(8, 8, *[
        chunk(b"zTXt", b"a%d\0\0" % number + zlib.compress(bytes(1_000_000), 9))
        for number in range(200)
    ]),
    "PNG of profiles": lambda: png(
        8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * 2000
    ),
    "PNG of empty data": lambda: png(8, 8)[:33] + chunk(b"IDAT", b"") * 4_000_000 + png(8, 8)[33:],
    "PNG with EXIF of nonsense": lambda: png(8, 8, chunk(b"eXIf", b"II*\0" + b"\xff" * 400)),
    "PNG with old EXIF": lambda: png(
        8, 8, chunk(b"tEXt", b"Raw profile type exif\0\nexif\n8\n" + b"4949" * 20_000_000)
    ),
    "large PNG with transparency": lambda: png(8900, 8900, colour=6, pixel=b"\xff\xff\xff\x7f"),
    "GIF of comments": lambda: gif(
        *[b"\x21\xfe" + b"\x01a" * 100_000 + b"\0"] * 100
    ),
    "GIF of one long comment": lambda: gif(b"\x21\xfe" + (b"\xff" + b"a" * 255) * 200_000 + b"\0"),
    "GIF larger than its frame": lambda: gif().replace(b"\x08\0\x08\0", b"\xf0\x22\xf0\x22", 1),
    "PNM of a long comment": lambda: b"P5\n#" + b"a" * 60_000_000 + b"\n1 1 255\na",
    "PNM with an odd maximum": lambda: b"P5 7000 7000 100\n" + bytes(49_000_000),
    "PNM of text": lambda: b"P2 5000 5000 255\n" + b"1 " * 25_000_000,
    "PNM of bits as text": lambda: b"P1 7000 7000\n" + b"1" * 49_000_000,
    "BMP of short runs": lambda: bmp_of_runs(8000, 8000, b"\1\1" * 20_000_000),
    "BMP of jumps": lambda: bmp_of_runs(8000, 8000, b"\0\2\xff\xff" * 2_000_000),
    "TIFF of long tags": lambda: tiff(
        *_GREY, *[(40_000 + number, 2, 8, 30_000_000) for number in range(60)],
        data=bytes(30_000_000),
    ),
    "TIFF of many strips": lambda: tiff(
        *_GREY, (273, 4, -1, 12_000_000), (278, 4, 1), (279, 4, -1, 12_000_000),
        data=bytes(48_000_000),
    ),
    "TIFF of fractions": lambda: tiff(
        *_GREY, (282, 5, -1, 6_000_000), (273, 4, 8), data=b"\1\0\0\0" * 12_000_000
    ),
}  # fmt: skip


def progressive(width: int, height: int, *, scans: int) -> bytes:
    """Write a JPEG that passes over all of its pixels again and again."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue().replace(
        b"\x08\0\x08\0\x08\1", struct.pack(">BHHB", 8, height, width, 1)
    )
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * scans + b"\xff\xd9"


# A file takes seconds, and the others take the same way.
QUICK = ("JPEG of scans", "TIFF of long tags")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in FILES]
)
def test_no_file_costs_more_than_one_answer(kind: str, tmp_path: Path) -> None:
    for answer in answers(FILES[kind](), tmp_path):
        assert answer == "read" or f"{tmp_path}/hostile" in answer
