"""How images are prepared and varied for training."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from nicegui import ui
from pydantic import BaseModel

from opsin.core.errors import OpsinError
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction
from opsin.studio.jobs.training_form import AUGMENT_WORDS
from opsin.studio.parts import layout
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset
    from opsin.studio.state import Studio

# Policies of augmentation, as the form of a training has them.
_SHOW: Final = {policy: words for policy, words in AUGMENT_WORDS.items() if policy}

CSS: Final = """
.op-preview { width: 100%; background: #fff; border-radius: .5rem; margin-top: .5rem; }
"""


class _Variation(BaseModel):
    """How images are varied."""

    words: str


class _Drawn(BaseModel):
    """What ``opsin data --augment --json`` says, as far as it is shown."""

    augment: _Variation


class Preview:
    """Some training images, each as it is prepared and as training varies it.

    Args:
        studio: Its queue draws them.
        the_set: The set.
        mirrored: Whether a mirrored image is still of its class.
    """

    def __init__(self, studio: Studio, the_set: LibraryDataset, *, mirrored: bool) -> None:
        self._studio, self._set = studio, the_set
        self._seed = 0
        with layout.panel("Preparation and augmentation"):
            ui.label(
                "Training shifts, rotates or mirrors each image a little, so that it learns more "
                "from few images."
            ).classes("op-muted")
            with ui.element("div").classes("op-actions"):
                usual = "photos" if mirrored else "symbols"
                self._policy = ui.select(_SHOW, label="The images show", value=usual).props(
                    "dense outlined options-dense"
                )
                self._button = layout.action("Preview", self._draw)
                self._others = layout.action("Other images", self._draw_others)
                self._others.set_visibility(False)
            self._place = StatusLine()

    async def _draw_others(self) -> None:
        """Draw other images."""
        self._seed += 1
        await self._draw()

    async def _draw(self) -> None:
        """Ask for the image, and show it when it is there."""
        policy = str(self._policy.value)
        if policy not in _SHOW:
            return
        self._button.disable()
        try:
            await self._drawn(policy)
        except OpsinError as error:
            self._place.fail(error)
        finally:
            if not self._button.is_deleted:
                self._button.enable()

    async def _drawn(self, policy: str) -> None:
        studio = self._studio
        folder = await asyncio.to_thread(studio.sets.folder, self._set.id)
        out = folder / "previews" / policy
        words = command("data", "--augment", policy, "--seed", str(self._seed), "--out", out)
        title = f"Draw variations of {self._set.title}"
        argv = [*words, *self._set.words()]
        asked = await JobAction.ask(studio.jobs, "preview", title, argv)
        self._place.say("Drawing a preview …")
        if not await asked.over(left=lambda: self._place.element.is_deleted):
            return
        drawn, cause = await asked.answer(_Drawn)
        if drawn is None:
            self._place.fail(cause)
            return
        self._others.set_visibility(True)
        self._place.clear()
        with self._place.element:
            text = drawn.augment.words
            ui.label(safe(text[:1].upper() + text[1:], 300))
            ui.label(f"Random training images of some classes (seed {self._seed}).").classes(
                "op-muted"
            )
            address = f"/previews/{self._set.id}/{policy}?v={asked.job.id}"
            with ui.link(target=address, new_tab=True):
                image = ui.element("img").classes("op-preview")
                image._props["src"] = address
                image._props["alt"] = f"Some training images, and each of them {safe(text, 300)}"
