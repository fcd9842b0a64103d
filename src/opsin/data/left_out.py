"""What a source holds and is not read: counted by kind, and named."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

from opsin.core.artifacts.records import LeftOut
from opsin.core.format import counted

#: What names of kinds begin with where a note of their own says what to do about them.
NOTED: Final = ("link out of", "run of Opsin", "folder that cannot")
_EXAMPLES: Final = 5
_NAMED: Final = 3
_ENDINGS: Final = {
    "text file": "txt md log rtf text rst",
    "table": "csv tsv json jsonl ndjson xml xls xlsx parquet yaml yml",
    "PDF file": "pdf",
    "document": "doc docx odt ppt pptx html htm",
    "video": "mp4 mov avi mkv webm m4v mpg mpeg wmv 3gp",
    "sound file": "mp3 wav m4a ogg flac aac",
    "archive": "zip tar gz tgz xz bz2 7z rar",
    "raw photograph": "cr2 cr3 crw nef nrw arw srf dng raf orf rw2 pef srw raw",
    "Photoshop file": "psd psb",
    "vector drawing": "svg eps ai ps",
    "image in another format": "jxl exr hdr dds xcf fits fit dcm nii svs sgi qoi xpm icns heics",
}
_KIND_OF: Final = {
    f".{ending}": kind for kind, endings in _ENDINGS.items() for ending in endings.split()
}


class LeftOutCounts:
    """Counts what is left out; of each kind it keeps the first five names."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._endings: set[str] = set()

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count something of a kind, which is said in the singular."""
        self._counts[kind] = self._counts.get(kind, 0) + count
        examples = self._examples.setdefault(kind, [])
        if name and len(examples) < _EXAMPLES:
            examples.append(name)

    def add_file(self, name: str) -> None:
        """Count a file by the ending of its name."""
        ending = os.path.splitext(name)[1].lower()  # noqa: PTH122  as text
        short = ending[1:] if ending[1:].isalnum() and len(ending) <= 6 else ""
        kind = _KIND_OF.get(ending) or (f"{short} file" if short else "other file")
        self._endings.add(kind)
        self.add(kind, name)

    def files(self) -> str:
        """Say which files of other kinds there are."""
        return left_out_in_words(each for each in self.listed() if each.kind in self._endings)

    def listed(self) -> tuple[LeftOut, ...]:
        """Return the kinds in the order in which they were found."""
        return tuple(
            LeftOut(kind=kind, count=count, examples=self._examples[kind])
            for kind, count in self._counts.items()
        )


def add_up(parts: Iterable[Iterable[LeftOut]]) -> tuple[LeftOut, ...]:
    """Return what several sources leave out as one list."""
    whole = LeftOutCounts()
    for part in parts:
        for each in part:
            whole.add(each.kind, "", each.count)
            for name in each.examples:
                whole.add(each.kind, name, 0)
    return whole.listed()


def left_out_in_words(left_out: Iterable[LeftOut]) -> str:
    """Say in one line what is left out."""
    kinds = []
    for each in left_out:
        noun, *rest = re.split(
            r"(?= (?:beside|with|without|in|of|out|outside|that) )", each.kind, maxsplit=1
        )
        number = counted(each.count, each.kind, f"{noun}s{''.join(rest)}")
        names = ", ".join(each.examples[:_NAMED])
        more = " …" if each.count > _NAMED and names else ""
        kinds.append(f"{number} ({names}{more})" if names else number)
    return ", ".join(kinds)
