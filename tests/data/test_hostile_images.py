"""Images made to take time or memory: each costs one answer, and no more memory than is allowed."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opsin.metadata import Background, Preparation

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS")

# What the process that asks may take beyond what Opsin takes anyway.
_ALLOWED = 512 << 20
_CHILD = """
import json, resource, sys
from pathlib import Path
from opsin.data.images import look_at, prepare
from opsin.errors import ImageError
from opsin.metadata import Preparation

preparation = Preparation.model_validate_json(sys.argv[1])
pages = int(Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for file in sys.argv[3:]:
    said = []
    for ask in (look_at, lambda path: prepare(path, preparation)):
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


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(
        ">I", zlib.crc32(kind + content)
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
    return b"".join([
        b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *before,
        chunk(b"IDAT", packed + packer.flush()), chunk(b"IEND", b""),
    ])  # fmt: skip


def answers(content: bytes, folder: Path, preparation: Preparation = DARK) -> list[Any]:
    """Return what a process with little memory says to an image's header and to its pixels."""
    file = folder / "hostile"
    file.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _CHILD, preparation.model_dump_json(),
         str(_ALLOWED), str(file)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
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
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([
        chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(rows), 9)), chunk(b"IEND", b""),
    ])  # fmt: skip


SHAPES: dict[str, Callable[[], bytes]] = {
    "tall": lambda: speck(1, 60_000),
    "wide": lambda: speck(60_000, 1),
    "very wide": lambda: speck(4_000_000, 2),
    "large": lambda: speck(5000, 4900),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_takes_the_memory_of_a_square(shape: str, tmp_path: Path) -> None:
    assert answers(SHAPES[shape](), tmp_path) == ["read", "read"]
