"""Files of a source that are left out, counted by kind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

from opsin.core.artifacts.records import LeftOut
from opsin.core.format import counted

#: Beginnings of kinds that have their own note.
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
    """Counts of what is left out, with the first five names of each kind."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._endings: set[str] = set()

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count something of a kind, named in the singular."""
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
        """Describe the files of other kinds."""
        return left_out_in_words(entry for entry in self.listed() if entry.kind in self._endings)

    def listed(self) -> tuple[LeftOut, ...]:
        """Return the kinds in order of appearance."""
        return tuple(
            LeftOut(kind=kind, count=count, examples=self._examples[kind])
            for kind, count in self._counts.items()
        )


def add_up(parts: Iterable[Iterable[LeftOut]]) -> tuple[LeftOut, ...]:
    """Merge what several sources leave out."""
    whole = LeftOutCounts()
    for part in parts:
        for entry in part:
            whole.add(entry.kind, "", entry.count)
            for name in entry.examples:
                whole.add(entry.kind, name, 0)
    return whole.listed()


def left_out_in_words(left_out: Iterable[LeftOut]) -> str:
    """Describe in one line what is left out."""
    kinds = []
    for entry in left_out:
        noun, *rest = re.split(
            r"(?= (?:beside|with|without|in|of|out|outside|that) )", entry.kind, maxsplit=1
        )
        number = counted(entry.count, entry.kind, f"{noun}s{''.join(rest)}")
        names = ", ".join(entry.examples[:_NAMED])
        more = " …" if entry.count > _NAMED and names else ""
        kinds.append(f"{number} ({names}{more})" if names else number)
    return ", ".join(kinds)
