"""Pictures in an archive, read without unpacking it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opsin.core.errors import ImageError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.digests import Digests
from opsin.data.free_names import free_name
from opsin.data.images import MAX_BYTES, SUFFIXES
from opsin.data.sources.archive import (
    MAX_MEMBERS,
    MAX_RATIO,
    SPARE_BYTES,
    checked_parts,
    conclude,
)
from opsin.data.sources.folder import LITTER
from opsin.data.sources.members import ArchiveBudget, Kind, Member, members_of, read_member, reading
from opsin.data.unlabelled.stream import Unlabelled

_SUFFIXES: Final = frozenset(SUFFIXES)


def pictures_in_archive(path: Path, watcher: Watcher = SILENT) -> Iterator[Unlabelled]:
    """Yield each picture in an archive with its content, in the archive's order.

    Hidden files and what does not end like a picture are passed over, and so are links. A member
    of a zip that is damaged is yielded with its `problem`; a tar cannot be read beyond a damage. Of
    a zip the list of its members is kept in memory while it is read, about 0.6 kB each; of a tar 8
    bytes for each picture.

    An archive may hold a name more than once, each time with another content. Later ones are called
    ``name-2.png`` and so on, in the archive's order, so that no two pictures share a name.

    Args:
        path: The archive.
        watcher: Is told what was passed over.

    Raises:
        SourceError: It is damaged, encrypted, hostile, expands to more than pictures do, or holds
            no pictures.
    """
    meter = _meter(path)
    names, links, renamed = Digests(), 0, 0
    with contextlib.closing(members_of(path, meter)) as members:
        for member in members:
            links += member.kind is Kind.LINK
            name = _picture_name(member, path)
            if name is not None:
                own = free_name(name, lambda name: _digest(name) in names)
                names.add(_digest(own))
                renamed += own != name
                yield _unlabelled(own, member, meter)
    conclude(path, watcher, wanted="an archive with pictures", found=len(names) > 0, links=links)
    if renamed:
        watcher.note(
            f"In {path} several pictures have one name; {renamed:,} of them were given a number"
        )


def count_members(path: Path) -> int | None:
    """Return how many pictures a zip lists; ``None`` for a tar, which has no list."""
    with contextlib.suppress(SourceError):
        with reading(path), path.open("rb") as file:
            listed = file.read(2) == b"PK"
        if listed:
            with contextlib.closing(members_of(path, _meter(path))) as members:
                return sum(_picture_name(member, path) is not None for member in members)
    return None


def _meter(path: Path) -> ArchiveBudget:
    with reading(path):
        size = path.stat().st_size
    return ArchiveBudget(path, bytes_left=MAX_RATIO * size + SPARE_BYTES, members_left=MAX_MEMBERS)


def _picture_name(member: Member, path: Path) -> str | None:
    """Return what a member is called, ``None`` where it is no picture."""
    parts = checked_parts(member, path)
    if member.kind is not Kind.FILE or not parts:
        return None
    if any(part.startswith(".") or part in LITTER for part in parts):
        return None
    wanted = os.path.splitext(parts[-1])[1].lower() in _SUFFIXES  # noqa: PTH122  as text
    return "/".join(parts) if wanted else None


def _digest(name: str) -> int:
    content = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _unlabelled(name: str, member: Member, meter: ArchiveBudget) -> Unlabelled:
    try:
        content = read_member(member, meter, limit=MAX_BYTES)
    except SourceError as error:
        # The members of a zip, which are metered here, stand each for itself. What is refused for
        # its size has no cause but the meter.
        if not member.metered or error.__cause__ is None:
            raise
        reason = str(error.__cause__) or type(error.__cause__).__name__
        problem = ImageError(
            "a readable picture",
            f"{name}: damaged in the archive ({reason})",
            "Pack it again, or leave it out.",
        )
        return Unlabelled(name, b"", problem=problem)
    if len(content) > MAX_BYTES:
        problem = ImageError(
            f"a picture file of at most {MAX_BYTES // 1_000_000} MB",
            f"{name} is larger",
            "Make it smaller first.",
        )
        return Unlabelled(name, b"", problem=problem)
    return Unlabelled(name, content)
