"""A studio's folders, address and limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pydantic import Field

from opsin.core.errors import RecipeError
from opsin.web.addresses import AddressSettings

#: Default port of the studio.
PORT: Final = 8600
# What a sub-path may be, such as ``/opsin``.
_SUB_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")


class StudioSettings(AddressSettings):
    """A studio's folders, address and limits."""

    runs: Path
    home: Path
    roots: tuple[Path, ...]
    port: int = Field(PORT, ge=0, le=65_535)
    at_once: int = Field(1, ge=1)
    share: bool = False
    sub_path: str = ""  # such as "/opsin", where a proxy passes on a part of its site
    most_disk: int = Field(0, ge=0)  # bytes of the studio's own files; 0 is no limit
    most_waiting: int = Field(20, ge=1)  # trainings that wait, of everybody

    @property
    def entrance(self) -> Path:
        """The sign-in page of a running studio's owner."""
        return self.home / "sign-in.html"

    def model_post_init(self, _: object) -> None:
        """Check what field types cannot express."""
        super().model_post_init(_)
        if not _SUB_PATH.fullmatch(self.sub_path):
            raise RecipeError(
                f"{self.sub_path!r:.80} is no path of a site, such as /opsin",
                "It begins with a slash and ends without one.",
            )
        for folder in (self.runs, self.home):
            if folder.exists() and not folder.is_dir():
                raise RecipeError(f"{folder} is a file", "Name a folder; it is made if missing.")
        for root in self.roots:
            if not root.is_dir():
                raise RecipeError(f"There is no folder {root} to browse in")
