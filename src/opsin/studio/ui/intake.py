"""Files from a visitor: chosen, dropped, pasted, or taken by camera."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from nicegui import events
from nicegui.element import Element

from opsin.core.errors import SourceError
from opsin.data.formats import SUFFIXES
from opsin.studio.datasets.uploads import SentFile
from opsin.studio.ui.kit import finished
from opsin.studio.words import safe

#: Images, as HTML's ``accept`` has them; browsers know few kinds by themselves.
IMAGES: Final = f"image/*,{','.join(SUFFIXES)}"
#: Archives.
ARCHIVES: Final = ".zip,.tar,.tgz,.gz,.xz,.bz2"
_KEY: Final = re.compile(r"[0-9a-f]{16}")
_NAME_MOST, _PATH_MOST = 1_000, 4_000
# Characters of the names in one sending: those of 100,000 files, which are all that is taken.
_NAMES_MOST: Final = 32_000_000
_NAME_LEAST: Final = 320


class Intake(Element, component="intake.js"):
    """A place that takes files: by button, drop, paste or camera; progress, stop, go on.

    While *Hold to record* is held, by pointer or key, the camera takes several images a second. The
    files go to `opsin.studio.datasets.uploads` in parts; a file that is sent again with the same
    ``batch``, after a reload, say, goes on where it stopped.

    Args:
        label: What is to be brought, as a request: it is shown, and read to those who do not see.
        batch: Says what these files are for: the same in every window, and after a reload.
        on_all: Is given all files, once none is on its way any more.
        accept: What is taken, as in HTML; other files are passed over, and that is said.
        camera: Whether images can be taken; where the browser allows no camera, a line says so.
        small: Whether it is a row of buttons; the label is only read out.
        around: Selector of the element around it that takes drops (default: itself).
        opens: Whether the camera is opened at once.
        live: Address that answers the camera's frames, which are then shown with their answers.
    """

    def __init__(
        self,
        label: str,
        *,
        batch: str,
        on_all: Callable[[list[SentFile]], Awaitable[object] | object],
        multiple: bool = True,
        accept: str = f"{IMAGES},{ARCHIVES}",
        camera: bool = True,
        folders: bool = False,
        small: bool = False,
        around: str = "",
        opens: bool = False,
        live: str = "",
    ) -> None:
        super().__init__()
        self.props.update(label=safe(label), multiple=multiple, accept=accept, camera=camera)
        self.props.update(folders=folders, batch=batch)
        self.props.update(small=small, around=around, opens=opens, live=live)
        self._on_all = on_all
        self._arrived: dict[str, SentFile] = {}
        self._names = 0  # their characters
        self.on("files", self._take)
        self.on("all", self._end)
        self.on("discard", self._forget)

    def _take(self, event: events.GenericEventArguments) -> None:
        for file in map(_sent, event.args if isinstance(event.args, list) else ()):
            if file is None or file["key"] in self._arrived:
                continue
            self._names += max(len(file["name"]) + len(file["path"]), _NAME_LEAST)
            if self._names > _NAMES_MOST:
                raise SourceError("These are too many files at once", "Pack them into a zip.")
            self._arrived[file["key"]] = file

    def _forget(self) -> None:
        self._arrived, self._names = {}, 0

    async def _end(self) -> None:
        files = list(self._arrived.values())
        self._forget()
        if files:
            await finished(self._on_all(files))


def _sent(given: object) -> SentFile | None:
    """Return what a browser sent about a file, or ``None`` if it is malformed."""
    match given:
        case {"key": str(key), "name": str(name), "path": str(path), "size": int(size)}:
            # A bool is an int, to Python.
            if _KEY.fullmatch(key) and size >= 0 and not isinstance(size, bool):
                name, path = name[:_NAME_MOST], path[:_PATH_MOST]
                return SentFile(key=key, name=name, path=path, size=size)
    return None
