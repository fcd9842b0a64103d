"""Names that break pages which take text for anything but text."""

from __future__ import annotations

import csv
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


def write_pictures(folder: Path, *, each: int = 40) -> Path:
    """Write digits as files with hostile names and hostile labels; return the table of them.

    Args:
        folder: Where they go.
        each: Pictures of each of the ten classes.
    """
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
