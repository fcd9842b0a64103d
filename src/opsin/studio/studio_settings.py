"""The settings of a studio."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from platformdirs import user_data_path
from pydantic import Field

from opsin.core.errors import RecipeError
from opsin.web.addresses import AddressSettings

#: Default port of the studio.
PORT: Final = 8600


def default_home() -> Path:
    """The default folder of the studio's sets, jobs and corrections."""
    return user_data_path("opsin") / "studio"


class StudioSettings(AddressSettings):
    """A studio's folders, address and limits."""

    runs: Path
    home: Path
    roots: tuple[Path, ...]
    port: int = Field(PORT, ge=0, le=65_535)
    at_once: int = Field(1, ge=1)

    @property
    def entrance(self) -> Path:
        """The sign-in page of a running studio's owner."""
        return self.home / "sign-in.html"

    def model_post_init(self, _: object) -> None:
        """Check what field types cannot express."""
        super().model_post_init(_)
        for folder in (self.runs, self.home):
            if folder.exists() and not folder.is_dir():
                raise RecipeError(
                    f"{folder} is a file", "Name a folder; it is made if there is none."
                )
        for root in self.roots:
            if not root.is_dir():
                raise RecipeError(f"There is no folder {root} to browse in")
