"""How a studio is set up, and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from platformdirs import user_data_path

from opsin.core.errors import RecipeError
from opsin.web.addresses import ALLOWED_HOSTS_HELP, HOST_HELP, check_address
from opsin.web.settings import check_settings, setting

#: Default port of the studio.
PORT: Final = 8600


def default_home() -> Path:
    """Return where the studio keeps its sets, jobs and corrections."""
    return user_data_path("opsin") / "studio"


@dataclass(frozen=True)
class StudioSettings:
    """Where a studio reads and writes, on which address, and how much it takes.

    Args:
        runs: Folder of the run directories.
        home: Folder of the studio's own files: queue, sets, corrections, uploads.
        roots: Folders below which people may browse for images.

    The other fields say what they mean themselves; most are options of ``opsin studio``, too.

    Raises:
        RecipeError: A value cannot work, or a token is missing.

    Example:
        >>> StudioSettings(runs=Path("runs"), home=Path("home"), roots=(Path.home(),)).at_once
        1
    """

    runs: Path
    home: Path
    roots: tuple[Path, ...]
    host: str = setting("127.0.0.1", HOST_HELP, flag="--host")
    port: int = setting(
        PORT, "Port, or the next that is free; 0 takes any.", flag="--port", least=0, most=65_535
    )
    token: str | None = setting(
        None, "What visitors may show; without, each start has codes of its own.", repr=False
    )
    allowed_hosts: tuple[str, ...] = setting(
        (), ALLOWED_HOSTS_HELP, flag="--allow-host", metavar="NAME"
    )
    at_once: int = setting(1, "Trainings that run at the same time.", flag="--at-once", least=1)

    @property
    def entrance(self) -> Path:
        """Return the page that signs its owner in as long as the studio runs."""
        return self.home / "sign-in.html"

    def __post_init__(self) -> None:
        check_address(self.host, self.token, self.allowed_hosts)
        check_settings(self)
        for folder in (self.runs, self.home):
            if folder.exists() and not folder.is_dir():
                raise RecipeError(
                    "folders for runs and for the studio's files",
                    f"{folder} is a file",
                    "Name a folder; it is made if there is none.",
                )
        for root in self.roots:
            if not root.is_dir():
                raise RecipeError(
                    "folders to browse in", f"{root} is none", "Give folders that are there."
                )
