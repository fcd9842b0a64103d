"""Adds images to a class."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.parts import layout
from opsin.studio.parts.intake import IMAGES, Intake
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.threads import UPLOADS
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset
    from opsin.studio.state import Studio

# Refused files of one upload that are shown one by one.
_TOLD: Final = 5


class AddImagesPanel:
    """Takes images by file or camera, and puts them into the class that is chosen.

    Args:
        studio: Has the sets and the uploads.
        the_set: One that was made here.
        names: Its classes.
        on_added: Is called when all that came in at once is kept.
    """

    def __init__(
        self,
        studio: Studio,
        the_set: LibraryDataset,
        names: list[str],
        on_added: Callable[[], Awaitable[None]],
    ) -> None:
        self._studio, self._set, self._on_added = studio, the_set, on_added
        self._kept = self._refused = 0
        self._over = True
        with layout.panel("Add images"):
            with ui.element("div").classes("op-actions"):
                self._class = ui.select(
                    _options(names), label="Into the class", value=0 if names else None
                ).props("dense outlined options-dense")
                self._names = names
                self._new = ui.input("A new class").props("dense outlined maxlength=100")
                layout.action("Add class", self._add_class)
            batch = hashlib.blake2s(f"add {the_set.id}".encode(), digest_size=8).hexdigest()
            Intake(
                "Choose, drop, paste or take images of this class.",
                accept=IMAGES,
                batch=batch,
                on_file=self._keep,
                on_all=self._all,
            )
            self._line = ui.label("").classes("op-muted").props('role="status"')
            self._status = StatusLine()

    async def _add_class(self) -> None:
        with self._status.errors():
            name = await UPLOADS.run(
                self._studio.sets.add_class, self._set.id, str(self._new.value)
            )
            self._names = await UPLOADS.run(self._studio.sets.classes, self._set.id)
            self._class.set_options(_options(self._names), value=self._names.index(name))
            self._new.set_value("")

    async def _keep(self, file: SentFile) -> None:
        """Put one image where it belongs; what is none is said and dropped."""
        place = self._class.value
        if self._over:
            self._over, self._refused = False, 0
            self._status.clear()
        try:
            await UPLOADS.run(self._put, file, place)
        except OpsinError as error:
            named = safe(file["name"], 60)
            self._refuse(str(error) if file["name"] in str(error) else f"{named}: {error}")
            return
        self._kept += 1
        self._line.set_text(f"{count(self._kept)} added")

    def _refuse(self, said: str) -> None:
        """Tell of a file that is not taken; of many, how many more."""
        self._refused += 1
        if self._refused <= _TOLD:
            self._status.add_error(said)
            return
        if self._refused == _TOLD + 1:
            with self._status.element:
                self._more = ui.label("").classes("op-muted")
        self._more.set_text(f"… and {count(self._refused - _TOLD)} more")

    def _put(self, file: SentFile, place: Any) -> None:
        content = self._studio.uploads.take(file["key"], file["name"])
        class_ = self._names[place] if isinstance(place, int) else ""
        self._studio.sets.keep_image(self._set.id, class_, content, file["name"])

    async def _all(self, _: list[SentFile]) -> None:
        self._over = True
        await self._on_added()


def _options(names: list[str]) -> dict[int, str]:
    return {place: safe(name, 60) for place, name in enumerate(names)}
