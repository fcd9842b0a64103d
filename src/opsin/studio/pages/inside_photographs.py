"""The dialog that chooses a photograph to look at: one's own, or one of those judged."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from nicegui import ui

from opsin.core.artifacts.run_predictions import PartPredictions, PredictedPart
from opsin.studio.threads import UPLOADS
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.ui.intake import IMAGES, Intake
from opsin.studio.ui.kit import StatusLine, heading, icon_action

if TYPE_CHECKING:
    from opsin.studio.context import Studio
    from opsin.studio.datasets.upload_import import SentFile


async def choose_photograph(
    dialog: ui.dialog, studio: Studio, run: str, on_choose: Callable[[str], Awaitable[None]], *,
    part: PredictedPart, judged: PartPredictions | None,
) -> None:  # fmt: skip
    """Offer photographs; ``on_choose`` gets ``kept/<key>``, or part and position: ``test/17``."""

    async def take(files: list[SentFile]) -> None:
        with status.errors():
            content = await UPLOADS.run(studio.uploads.take, files[0]["key"])
            key = studio.tried.put(content, files[0]["name"])
            await studio.tried.answer(run, key)  # or it is refused here
            dialog.close()
            await on_choose(f"kept/{key}")

    dialog.clear()
    with dialog, ui.card().classes("stack").style("width: min(960px, 94vw); max-width: none"):
        with ui.element("div").classes("line"):
            heading("Choose a photograph")
            ui.space()
            icon_action("close", "Close", dialog.close)
        status = StatusLine()
        Intake("A photograph of your own", multiple=False, accept=IMAGES,
               batch=secrets.token_hex(8), on_all=take)  # fmt: skip
        area = ui.element("div").classes("stack")
    dialog.open()
    if judged is None:
        return
    with status.errors():
        images = await studio.opened.of_run(run)
        order = [*judged.surest(~judged.right), *judged.surest(judged.right)]

        def describe(at: int) -> GalleryImage:
            label, actual = images.classes[judged.answers[at]], images.classes[judged.labels[at]]
            caption = label if judged.right[at] else f"{actual}, taken for {label}"
            address = images.address(int(judged.rows[at]))
            return GalleryImage(address, caption, caption, "right" if judged.right[at] else "wrong")

        async def choose(position: int) -> None:
            dialog.close()
            await on_choose(f"{part}/{order[position]}")

        if not area.is_deleted:
            with area:
                heading("Or one that it was judged by", 3)
                ImageGallery("Photographs, mistakes first", order, describe, on_open=choose,
                             side=120, height=420)  # fmt: skip
