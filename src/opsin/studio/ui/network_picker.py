"""A pretrained network to build on: one of the box, one that is downloaded, or one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.backbones.named_backbones import NAMED
from opsin.backbones.pixel_values import CHOICES
from opsin.core.format import file_size
from opsin.core.glossary import find_term
from opsin.studio.ui.terms import ask_beside
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

#: The pixels that networks are trained on, in words.
PIXELS: Final = {
    "": "As the network says",
    **{
        f"{choice}{order}": f"{choice}{', blue first' if order else ''}"
        for choice in CHOICES
        for order in ("", ",bgr")
    },
}
# Classifiers that are offered, the newest first.
_RUNS_MOST: Final = 50


@dataclass(frozen=True)
class Network:
    """A network to choose: its key, its words, and what a download takes."""

    key: str  # ``name:efficientnet-lite2`` or ``run:0123456789abcdef``
    text: str
    price: str = ""


def known_networks(studio: Studio) -> list[Network]:
    """The networks to choose from; reads the disk."""
    networks = []
    for name, network in NAMED.items():
        size = file_size(network.size)
        price = ""
        if network.path is None:
            price = f"{size} are downloaded when the training starts. Licence: {network.licence}."
        words = f"{name}: {network.suits}{f', is downloaded ({size})' if price else ''}"
        networks.append(Network(f"name:{name}", words, price))
    rows = [row for row in studio.runs.rows() if row.accuracy is not None][:_RUNS_MOST]
    titles = {
        row.id: project.title_of(row) for project in studio.projects.all() for row in project.runs
    }
    return networks + [
        Network(f"run:{row.id}", f"Your classifier {safe(titles.get(row.id, row.name), 60)}")
        for row in rows
    ]


def network_picker(
    networks: list[Network], chosen: str, on_change: Callable[[str], object]
) -> ui.select:
    """A field to choose a network; it calls ``on_change`` with the key of the chosen one."""
    options = {network.key: network.text for network in networks}
    if chosen and chosen not in options:
        options[chosen] = "As before"
    field = ui.select(
        options, label="Pretrained network", value=chosen or None,
        on_change=lambda event: on_change(event.value or ""),
    )  # fmt: skip
    ask_beside(field.props("options-dense"), find_term("--from"))
    return field


def key_of(text: str) -> str:
    """The key of a network by its name on the command line; others stay as they are."""
    return f"name:{text}" if text in NAMED else text


def text_of(studio: Studio, key: str) -> str:
    """What the command line calls a network; raises `NotThere` if its classifier is gone."""
    kind, _, name = key.partition(":")
    if kind == "run":
        return str(studio.runs.get(name).path)
    return name if kind == "name" else key
