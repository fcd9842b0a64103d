"""How a studio is set up, and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from platformdirs import user_data_path

from opsin.core.errors import RecipeError
from opsin.web.addresses import check_address

#: Port on which a studio listens where nobody says.
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
        roots: Folders below which people may browse for pictures.
        host: Address to listen on; any but this machine's own needs a token.
        port: Port; 0 takes one that is free.
        token: What visitors may show; without, each start has codes of its own.
        allowed_hosts: Further names by which the studio may be called.
        upload_bytes: Most bytes of one upload.
        upload_files: Most files of one upload.
        at_once: Trainings that run at the same time.

    Raises:
        RecipeError: A value cannot work, or a token is missing.

    Example:
        >>> StudioSettings(runs=Path("runs"), home=Path("home"), roots=(Path.home(),)).at_once
        1
    """

    runs: Path
    home: Path
    roots: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    upload_bytes: int = 4 << 30
    upload_files: int = 100_000
    at_once: int = 1

    @property
    def entrance(self) -> Path:
        """Return the page that signs its owner in as long as the studio runs."""
        return self.home / "sign-in.html"

    def __post_init__(self) -> None:
        check_address(self.host, self.token, self.allowed_hosts)
        if not 0 <= self.port <= 65_535:
            raise RecipeError("a port from 0 to 65,535", f"got {self.port}", f"Say {PORT}.")
        if self.at_once < 1:
            raise RecipeError("1 or more trainings at once", f"got {self.at_once}", "Say 1.")
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
