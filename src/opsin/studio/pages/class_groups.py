"""The groups of photographs inside a class, and a dialog that names them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.errors import OpsinError, SourceError
from opsin.core.format import counted
from opsin.report.class_change import ClassChange
from opsin.studio.datasets.album import Album
from opsin.studio.jobs.queue import JobAction
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.context import Studio

# Photographs of a group that are shown.
_SHOWN: Final = 6


async def groups_in(studio: Studio, album: Album, class_: str) -> list[list[int]]:
    """The positions of a class's photographs by groups, the largest first, from another process."""
    words = [sys.executable, "-m", "opsin", "data", "--json", "--quiet", "--no-draw",
             f"--split={class_}", *album.dataset.words()]  # fmt: skip
    asked = await JobAction.ask(studio.jobs, "plan", "Groups", words)
    try:
        await asked.over()
        found, cause = await asked.answer(ClassChange)
    finally:
        studio.jobs.remove(asked.job.id)
    if found is None:
        raise OpsinError(kit.without_commands(cause))
    there = set(album.of(album.classes.index(class_)).tolist())
    place = {name: at for at, name in enumerate(album.contents.names) if at in there}
    groups = [[place[name] for name in group.names if name in place] for group in found.groups]
    groups = [group for group in groups if group]
    if len(groups) < 2:
        raise SourceError(f"The photographs of {class_} are too much alike", "Move them by hand.")
    return groups


async def ask_groups(
    album: Album, class_: str, groups: Sequence[Sequence[int]]
) -> dict[str, list[int]]:
    """Ask for the names of groups; photographs of a group that keeps the class's name stay."""
    fields = []
    with kit.dialog(f"Split {safe(class_, 60)}") as asked:
        kit.note("Name each group. One that keeps the name stays where it is.")
        for number, group in enumerate(groups, start=1):
            ImageGallery(
                f"Group {number}", group[:_SHOWN],
                lambda at: GalleryImage(album.address(at), album.name(at)), side=96, captions=False,
            )  # fmt: skip
            label = f"Group {number}: {counted(len(group), 'photograph')}"
            fields.append(ui.input(label, value=class_).props("maxlength=120"))
        if await kit.submitted(asked, "Split") is not True:
            return {}
    named: dict[str, list[int]] = {}
    for field, group in zip(fields, groups, strict=True):
        name = str(field.value or "").strip()
        if name and name != class_:
            named.setdefault(name, []).extend(group)
    return named
