"""A pretrained network to build on: by name, or a run of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.backbones.named_backbones import NAMED
from opsin.backbones.pixel_values import CHOICES
from opsin.core.format import file_size
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


def network_choice(known: dict[str, str], chosen: str, on_change: Callable[[str], None]) -> None:
    """Let people choose a network: `known_networks`; ``chosen`` is as `text_of` takes it."""
    options = dict(known)
    if chosen and chosen not in options:
        options[chosen] = "That of the run"
    ui.select(
        options,
        label="Pretrained network",
        value=chosen or None,
        on_change=lambda event: on_change(event.value or ""),
    ).classes("op-field").props("options-dense")  # fmt: skip


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
    runs = [row for row in studio.runs.rows() if row.accuracy is not None][:_RUNS]
    return options | {f"run:{row.id}": f"Your classifier {safe(row.name, 60)}" for row in runs}


def text_of(studio: Studio, chosen: str) -> str:
    """Return what the command line calls a choice.

    Raises:
        NotThere: The run is gone.
    """
    kind, _, which = chosen.partition(":")
    match kind:
        case "run":
            return str(studio.runs.get(which).path)
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
