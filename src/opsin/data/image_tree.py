"""The walk over a folder that finds its images, and counts of what else is there."""

from __future__ import annotations

import abc
import contextlib
import itertools
import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import SourceError
from opsin.core.format import counted
from opsin.data.formats import SUFFIXES
from opsin.stores.bucket import StoredObject

#: File that lists the members of an archive that were not unpacked.
LEFT_OUT_FILE: Final = ".opsin-left-out.json"
#: Most entries of a folder that a stream sorts, since sorting holds them in memory.
SORTED: Final = 10_000

# Files that systems leave in folders and archives.
_LITTER: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_IMAGES: Final = frozenset(SUFFIXES)
_NUMBER: Final = re.compile(r"\d+")


def is_visible(name: str) -> bool:
    """Tell whether a name is neither hidden nor left by a system."""
    return not name.startswith(".") and name not in _LITTER


def is_image_name(name: str) -> bool:
    """Tell whether a name has an image's ending."""
    at = name.rfind(".")
    return at > 0 and name[at:].lower() in _IMAGES


def is_within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder or below it; both absolute, links resolved."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def is_run(folder: str) -> bool:
    """Tell whether a folder is a run of Opsin."""
    return all(os.path.isfile(f"{folder}/{name}") for name in ("recipe.json", "status.json"))  # noqa: PTH113


def natural(name: str) -> str:
    """Return a sort key that orders numbers in names by value, before other text."""

    def with_length(number: re.Match[str]) -> str:
        ascii_digits = (str(unicodedata.decimal(digit)) for digit in number[0])
        digits = (number[0] if number[0].isascii() else "".join(ascii_digits)).lstrip("0")
        return f"\1{chr(min(len(digits), 0x10FFFF))}{digits}"

    # Flat strings: a million nested tuples would take a gigabyte.
    return _NUMBER.sub(with_length, name.casefold())


def kind_of_entry(entry: os.DirEntry[str]) -> Literal["folder", "image", "file"] | None:
    """Return the kind of an entry of a folder, links followed."""
    if not is_visible(entry.name):
        return None
    try:
        if entry.is_dir():
            return "folder"
        if not entry.is_file():
            return None
    except OSError:  # a link to itself, say
        return None
    return "image" if is_image_name(entry.name) else "file"


@contextlib.contextmanager
def readable(path: object, *, called: str | None = None) -> Iterator[None]:
    """Turn an `OSError` about a folder or file into a `SourceError`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceError(f"{called or path}: {reason}", "Check its rights.") from error


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
#: The kind of links that a walk does not follow.
LINK_OUT: Final = "link out of the folder"


class LeftOutCounts:
    """Counts of what is left out, with the first five names of each kind."""

    def __init__(self) -> None:
        self._examples: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count something of a kind, named in the singular."""
        self.counts[kind] += count
        examples = self._examples.setdefault(kind, [])
        if name and len(examples) < 5:
            examples.append(name)

    def add_file(self, name: str) -> None:
        """Count a file by the ending of its name."""
        ending = os.path.splitext(name)[1].lower()  # noqa: PTH122  as text
        short = ending[1:] if ending[1:].isalnum() and len(ending) <= 6 else ""
        self.add(_KIND_OF.get(ending) or (f"{short} file" if short else "other file"), name)

    def listed(self) -> tuple[LeftOut, ...]:
        """Return the kinds in order of appearance."""
        return tuple(
            LeftOut(kind=kind, count=self.counts[kind], examples=examples)
            for kind, examples in self._examples.items()
        )


def add_up(parts: Iterable[Iterable[LeftOut]]) -> tuple[LeftOut, ...]:
    """Merge what several sources leave out."""
    whole = LeftOutCounts()
    for entry in itertools.chain.from_iterable(parts):
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
        names = ", ".join(entry.examples[:3])
        more = " …" if entry.count > 3 and names else ""
        kinds.append(f"{number} ({names}{more})" if names else number)
    return ", ".join(kinds)


@dataclass
class Walk(abc.ABC):
    """What a walk over a folder, or over a store's prefix, finds besides images."""

    root: str
    #: Folders down to two levels, the empty ones, and those that hold links out of the root.
    folders: list[str] = field(default_factory=list)
    bare: set[str] = field(default_factory=set)
    linked_out: set[str] = field(default_factory=set)
    passed: LeftOutCounts = field(default_factory=LeftOutCounts)

    @abc.abstractmethod
    def images(self) -> Iterator[str]:
        """Yield the names of images; the rest is complete when it has ended."""

    @abc.abstractmethod
    def reference(self, name: str) -> str | StoredObject:
        """Return the image that was yielded by this name."""


class ImageTree(Walk):
    """The images below a folder; a `stream` skips unreadable folders."""

    def __init__(self, root: Path, follow_links: bool = False, *, stream: bool = False) -> None:
        super().__init__(str(root))
        self._follow_links, self._stream = follow_links, stream
        self._inside = os.path.realpath(root)
        # What stands before ".." may be a link.
        self.start = self._inside if ".." in root.parts else os.path.abspath(root)  # noqa: PTH100

    def reference(self, name: str) -> str:
        """Return the path of an image."""
        return os.path.join(self.start, name)  # noqa: PTH118  a million as text

    def images(self) -> Iterator[str]:
        """Yield the images' paths from the root, each folder's own before its sub-folders'."""
        entered = set[str]()
        links = deque([("", self._inside)])
        while links:
            if links[0][1] in entered:
                self.passed.add("link in the folder itself", links.popleft()[0])
                continue
            folders = [links.popleft()]
            while folders:
                folder, real = folders.pop()
                if real in entered:  # reached through a link before
                    continue
                entered.add(real)
                if folder and folder.count("/") < 2:
                    self.folders.append(folder)
                inner = []
                for name, kind, target in self._entries(folder):
                    path = f"{folder}/{name}" if folder else name
                    if kind == "image":
                        yield path
                    elif target:
                        links.append((path, target))
                    else:
                        inner.append((path, f"{real.rstrip(os.sep)}{os.sep}{name}"))
                folders += reversed(inner)

    def _entries(self, folder: str) -> Iterator[tuple[str, str, str]]:
        scanned = self._scan(folder)
        first = list(itertools.islice(scanned, SORTED + 1 if self._stream else None))
        if not self._stream or len(first) <= SORTED:
            # Twice, so that names of equal keys, such as 1 and 01, have a fixed order.
            first = sorted(sorted(first), key=lambda entry: natural(entry[0]))
        return itertools.chain(first, scanned)

    def _scan(self, folder: str) -> Iterator[tuple[str, str, str]]:
        # Names of images and folders, their kinds, and the targets of links.
        path = f"{self.root}/{folder}" if folder else self.root
        if is_run(path):
            self.passed.add("run of Opsin", folder)  # its images are figures
            return
        try:
            with readable(path), os.scandir(path) as entries:
                bare = True
                for entry in entries:
                    bare, kind = False, kind_of_entry(entry)
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if kind in ("image", "folder"):
                        target = os.path.realpath(entry.path) if entry.is_symlink() else ""
                        if not target or self._follow_links or is_within(target, self._inside):
                            yield entry.name, kind, target
                        else:
                            self.linked_out.add(folder)
                            self.passed.add(LINK_OUT, name)
                    elif kind == "file":
                        self.passed.add_file(name)
                    elif is_visible(entry.name):
                        self.passed.add("link or device that cannot be read", name)
                    elif entry.name != LEFT_OUT_FILE:
                        hidden = "folder" if entry.is_dir(follow_symlinks=False) else "file"
                        self.passed.add(f"hidden {hidden}", name)
                if bare:
                    self.bare.add(folder)
        except SourceError as error:
            if not (self._stream and folder):
                raise
            reason = error.message.removeprefix(f"{path}: ")
            self.passed.add("folder that cannot be read", f"{folder}: {reason}")


def holds_images(folder: Path) -> bool:
    """Tell whether a folder has an image in it or below."""
    return next(ImageTree(folder, stream=True).images(), None) is not None
