"""Names that break pages which take text for anything but text."""

import csv
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

_IMAGE: Final = '<img src=x onerror="window.HACKED=1">'
_SCRIPT: Final = "<script>window.HACKED=2</script>"

#: Class names, one a kind: markup, templates, keys that NiceGUI would run, quotes, letters that
#: run from right to left, 10 kB, and a heap of accents. Others cannot be trained on.
CLASSES: Final = (
    _IMAGE,
    _SCRIPT,
    "{{7*7}} ${7*7} #{7*7} {{constructor.constructor('window.HACKED=3')()}}",
    ":onclick",
    ":formatter=() => (window.HACKED = 4)",
    "' onmouseover='window.HACKED=5' x=\"\" onload=\"window.HACKED=6",
    "שלום <b>עולם</b> 123",
    "W" * 10_000,
    "[a](javascript:window.HACKED=7) **b** `c` javascript:window.HACKED=8",
    "\N{COMBINING ACUTE ACCENT}" * 40 + "\N{SNOWMAN}",
)

#: What anything else may be called as well: marks that turn what follows, and control characters.
NAMES: Final = (
    *CLASSES,
    "\u202egnp.exe\u202c \u2067שלום\u2069 \u202d<b>",
    "\x1b[31m\x07\r\n\ttwo lines\x7f\ufeff",
)

#: What a file may be called: no slash, at most 255 bytes.
FILES: Final = tuple(
    name.replace("/", "\N{FRACTION SLASH}").encode()[:200].decode(errors="ignore") for name in NAMES
)


def write_images(folder: Path, *, each: int = 40) -> Path:
    """Write digits as files with hostile names and hostile labels; return the table of them."""
    folder.mkdir(parents=True)
    digits = load_digits()
    rows = []
    for number, name in enumerate(CLASSES):
        for place, row in enumerate(np.flatnonzero(digits.target == number)[:each]):
            file = f"{number}-{place}-{FILES[(number + place) % len(FILES)]}.png"
            pixels = np.rint(digits.images[row] * (255 / 16)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / file)
            rows.append((file, name))
    table = folder / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label"))
        writer.writerows(rows)
    return table


def bomb() -> bytes:
    """Return a small file that is 1.2 GB of pixels."""
    line = bytes(1 + 3 * 20_000)
    packer = zlib.compressobj(9, wbits=-15)
    # Of one line that is packed by itself, the others are copies.
    packed = packer.compress(line) + packer.flush(zlib.Z_FULL_FLUSH)
    check = (20_000 * len(line) % 65_521 << 16 | 1).to_bytes(4, "big")  # Adler-32 of zeros
    content = b"\x78\xda" + 20_000 * packed + packer.flush() + check

    def chunk(kind: bytes, data: bytes) -> bytes:
        ends = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + ends

    size = (20_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size)
    return head + chunk(b"IDAT", content) + chunk(b"IEND", b"")
