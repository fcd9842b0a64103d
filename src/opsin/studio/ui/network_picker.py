"""A pretrained network to build on: one of the box, one that is downloaded, or one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.backbones.named_backbones import NAMED
from opsin.core.format import file_size
from opsin.core.glossary import find_term
from opsin.studio.ui.terms import ask_beside
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio

# Classifiers that are offered, the newest first.
_RUNS_MOST: Final = 50


def known_networks(studio: Studio) -> dict[str, str]:
    """The networks to choose from in words, by names and ids of runs; reads the disk."""
    networks = {
        name: f"{name}: {network.suits}"
        + ("" if network.path else f", is downloaded ({file_size(network.size)})")
        for name, network in NAMED.items()
    }
    ones = [(row, project) for project in studio.projects.all() for row in project.classifiers]
    ones.sort(key=lambda one: -(one[0].started or 0.0))
    return networks | {
        f"run:{row.id}": f"Your classifier {safe(project.title_of(row), 60)}"
        for row, project in ones[:_RUNS_MOST] if row.accuracy is not None
    }  # fmt: skip


def price_of(network: str) -> str:
    """What must be downloaded for a network first; ``""`` if nothing."""
    known = NAMED.get(network)
    if known is None or known.path is not None:
        return ""
    size = file_size(known.size)
    return f"{size} are downloaded when the training starts. Licence: {known.licence}."


def network_picker(
    networks: Mapping[str, str], chosen: str, on_change: Callable[[str], object]
) -> None:
    """A field to choose a network; it calls ``on_change`` with the chosen one."""
    options = dict(networks)
    if chosen:
        options.setdefault(chosen, "As before")
    field = ui.select(
        options, label="Pretrained network", value=chosen or None,
        on_change=lambda event: on_change(event.value or ""),
    )  # fmt: skip
    ask_beside(field.props("options-dense"), find_term("--from"))


def text_of(studio: Studio, network: str) -> str:
    """What the command line calls a network; raises `NotThere` if its classifier is gone."""
    kind, _, run = network.partition(":")
    return str(studio.runs.get(run).path) if kind == "run" else network
