"""A pretrained network to build on: by name, a run of one's own, or a file."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from nicegui import ui

from opsin.backbones.named_backbones import NAMED
from opsin.backbones.pixel_values import CHOICES
from opsin.core.format import file_size
from opsin.studio.datasets.upload_import import SentFile
from opsin.studio.parts.intake import Intake
from opsin.studio.parts.status_line import StatusLine
from opsin.studio.threads import UPLOADS
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

#: What people call the pixels that networks are trained on.
PIXELS: Final = {
    "": "As its files say",
    **{
        f"{choice}{order}": f"{choice}{', blue first' if order else ''}"
        for choice in CHOICES
        for order in ("", ",bgr")
    },
}
# Runs that are offered, the newest first.
_RUNS: Final = 50


class NetworkChoice:
    """Lets people choose a network, or bring one.

    Args:
        studio: What all windows share.
        known: The networks, as `known_networks` returns them.
        chosen: What the form begins with, as `text_of` gave it.
        pixels: The pixels that are chosen, a key of `PIXELS`.
        on_change: Is called with the new choice and pixels.
    """

    def __init__(
        self,
        studio: Studio,
        known: dict[str, str],
        chosen: str,
        pixels: str,
        on_change: Callable[[str, str], None],
    ) -> None:
        self._studio = studio
        self._on_change = on_change
        self._options = dict(known)
        if chosen and chosen not in self._options:
            self._options[chosen] = "That of the run"
        self._network = ui.select(
            self._options,
            label="Pretrained network",
            value=chosen or None,
            on_change=self._changed,
        ).classes("op-field").props("options-dense")  # fmt: skip
        with ui.expansion("A network of yours (.onnx)").classes("op-more") as more:
            Intake(
                "Choose or drop an ONNX file with one image input.",
                multiple=False,
                accept=".onnx",
                camera=False,
                batch=secrets.token_hex(8),
                on_all=self._take,
            )
            self._status = StatusLine()
        more.props('header-class="op-muted"')
        self._pixels = ui.select(
            PIXELS, label="Pixels that it was trained on", value=pixels, on_change=self._changed
        ).classes("op-field").props("dense options-dense")  # fmt: skip

    def _changed(self, _event: Any) -> None:
        self._on_change(self._network.value or "", self._pixels.value or "")

    async def _take(self, files: list[SentFile]) -> None:
        """Keep a network that can be built on; say why another cannot."""
        networks, uploads = self._studio.networks, self._studio.uploads
        with self._status.errors():
            (file,) = files[:1]
            sent = await UPLOADS.run(uploads.path, file["key"])
            number = await UPLOADS.run(networks.add, sent, file["name"])
            await UPLOADS.run(uploads.drop, file["key"])
            await asyncio.to_thread(networks.check, number)
            path = await asyncio.to_thread(networks.get, number)
            self._options[f"file:{number}"] = safe(path.name, 60)
            self._network.set_options(self._options, value=f"file:{number}")


def known_networks(studio: Studio) -> dict[str, str]:
    """Return the networks there are, as `text_of` takes them, and how people call them.

    It reads the disk: call it in a thread.
    """
    options = {}
    for name, network in NAMED.items():
        here = network.path is not None
        place = "on this machine" if here else f"is fetched from {network.repository}"
        options[f"name:{name}"] = (
            f"{name}: {network.suits} · {file_size(network.size)} · {network.licence} · {place}"
        )
    files = studio.networks.all()
    options |= {f"file:{number}": safe(path.name, 60) for number, path in files.items()}
    runs = [row for row in studio.runs.rows() if row.accuracy is not None][:_RUNS]
    return options | {f"run:{row.id}": f"Your classifier {safe(row.name, 60)}" for row in runs}


def fault_of(studio: Studio, chosen: str, pixels: str) -> str:
    """Return what keeps a choice from being built on, or nothing."""
    kind, _, which = chosen.partition(":")
    if not chosen:
        return "Choose a pretrained network, or bring one."
    if kind == "file" and not pixels and studio.networks.asks_for_pixels(which):
        return "Choose the pixels that the network was trained on: its file does not say them."
    if kind == "run" and pixels not in ("", "0..255"):
        return f"Your classifier scales pixels itself: choose “{PIXELS['']}”."
    return ""


def text_of(studio: Studio, chosen: str) -> str:
    """Return what the command line calls a choice.

    Raises:
        NotThere: The run or the file is gone.
    """
    kind, _, which = chosen.partition(":")
    match kind:
        case "run":
            return str(studio.runs.get(which).path)
        case "file":
            return str(studio.networks.get(which))
        case "name":
            return which
    return chosen


def is_fetched(chosen: str) -> bool:
    """Tell whether a choice would be fetched when the training begins."""
    kind, _, which = chosen.partition(":")
    return kind == "name" and which in NAMED and NAMED[which].path is None


def price_of(chosen: str) -> str:
    """Return what fetching takes, for a choice that is to be fetched."""
    network = NAMED[chosen.partition(":")[2]]
    return (
        f"{file_size(network.size)} are fetched from huggingface.co/{network.repository} "
        f"when the training begins; the licence is {network.licence}."
    )
