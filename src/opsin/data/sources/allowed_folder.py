"""The folder that a table's paths may not leave."""

from __future__ import annotations

import os
import re
from pathlib import Path

from opsin.data.image_tree import is_within


class AllowedFolder:
    """A folder and all below it, where a table may name images.

    A table that somebody else wrote could name private images otherwise, and they would get into a
    report that is shared.

    Args:
        folder: The folder.
        archive: Whether it was unpacked from an archive, which nothing allows to be left.
        follow_links: Whether links within may lead out of it.

    Example:
        >>> inside = AllowedFolder(Path("photos"))
        >>> inside.holds("cat/1.jpg", Path("photos")), inside.holds("../me.jpg", Path("photos"))
        (True, False)
    """

    def __init__(self, folder: Path, *, archive: bool = False, follow_links: bool = False) -> None:
        self._archive = archive
        self._follow_links = follow_links
        self._written = os.path.abspath(folder)  # noqa: PTH100
        self._real = os.path.realpath(folder)
        # Whether a folder leads to one inside; a table names few of them many times.
        self._known: dict[str, bool] = {}

    @property
    def expected(self) -> str:
        """What is asked of a path, in words."""
        return f"a path within the {'archive' if self._archive else 'folder of the table'}"

    @property
    def advice(self) -> str:
        """What to do about a path that leads out."""
        if self._archive:
            return "A table in an archive can name the archive's own files only."
        return "If you trust the table and mean these images, allow it with --outside."

    def holds(self, written: str, start: Path) -> bool:
        """Tell whether a path leads to a place inside, links included.

        Args:
            written: The path, as a table has it.
            start: Where it begins.
        """
        if self._archive and re.match(r"[A-Za-z]:|[/\\]", written):
            return False
        place = os.path.join(os.path.abspath(start), written)  # noqa: PTH100, PTH118  a million paths as text
        if self._follow_links and is_within(os.path.normpath(place), self._written):
            return True
        folder, name = os.path.split(place)
        if name in ("", ".", ".."):
            return False
        if folder not in self._known:
            self._known[folder] = is_within(os.path.realpath(folder), self._real)
        if not self._known[folder]:
            return False
        return not os.path.islink(place) or is_within(os.path.realpath(place), self._real)  # noqa: PTH114
