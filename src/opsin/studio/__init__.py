"""The studio: Opsin in a browser, without a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from platformdirs import user_data_path

from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.studio.settings import PORT, StudioSettings


@checked
def open_studio(
    runs: str | os.PathLike[str] = "runs",
    *,
    home: str | os.PathLike[str] | None = None,
    roots: Sequence[str | os.PathLike[str]] = (),
    host: str = "127.0.0.1",
    port: int = PORT,
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    at_once: int = 1,
    share: bool = False,
    sub_path: str = "",
    most_gigabytes: float = 0.0,
    most_waiting: int = 20,
    open_browser: bool = True,
    watcher: Watcher = SILENT,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Run the studio until the process is asked to stop (Ctrl-C, SIGTERM).

    Trainings are separate processes and continue without it. Browsers sign in by an address that
    works once, since other accounts of the machine can reach the studio, too.

    Args:
        runs: Folder of the run directories.
        home: Folder of the studio's own files (default: the user's data folder).
        roots: Folders below which people may browse for images (default: the user's home).
        host: Address to listen on; any but a loopback address needs a token.
        port: Port, or the next that is free; 0 takes any.
        token: Token for visitors; needed on an address that other machines can reach.
        allowed_hosts: Further names by which the studio may be called.
        at_once: Number of concurrent trainings.
        share: Let the owner invite others, each by a link for a name and a role (More, *People*).
        sub_path: Path of a proxy's site below which the studio is served, such as ``/opsin``.
        most_gigabytes: Size of the studio's own files beyond which uploads are refused; 0 is no
            limit.
        most_waiting: Trainings that may wait at the same time.
        open_browser: Whether to open a browser.
        watcher: Receives the address.
        announce: Receives an address that signs in once (default: shown in the terminal).

    Raises:
        MissingExtraError: ``opsin[studio]`` is not installed.
        RecipeError: A value is invalid, or the address cannot be bound.
        RunError: Another studio uses the same files.
        KeyboardInterrupt: Ctrl-C ended it.

    Example:
        ``opsin.open_studio("runs", roots=["photos"])``
    """
    settings = StudioSettings(
        runs=Path(runs).absolute(),
        home=Path(home or user_data_path("opsin") / "studio").absolute(),
        roots=tuple(Path(root).absolute() for root in roots or [Path.home()]),
        host=host,
        port=port,
        token=token,
        allowed_hosts=tuple(allowed_hosts),
        at_once=at_once,
        share=share,
        sub_path=sub_path,
        most_disk=int(most_gigabytes * 1e9),
        most_waiting=most_waiting,
    )
    try:
        from opsin.studio.app import serve  # noqa: PLC0415  needs NiceGUI
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("opsin"):
            raise
        raise MissingExtraError("the studio", "studio") from error
    serve(settings, open_browser, watcher, announce)
