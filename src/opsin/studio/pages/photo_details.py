"""What else there is about photographs: a whole class, what was removed, and an export."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nicegui import ui
from pydantic import BaseModel

from opsin.core.format import count, counted, file_size
from opsin.data.image_tree import left_out_in_words
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.pages.album import Album, albums_of
from opsin.studio.pages.photo_columns import PhotoColumn, Work
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import LibraryDataset
    from opsin.studio.state import Studio

_HEIGHT: Final = 440


class _Exported(BaseModel):
    """The displayed part of ``opsin data --export --json``."""

    images: int
    bytes: int


async def show_class(
    work: Work, album: Album, class_: str, choose: Callable[[PhotoColumn | None], None]
) -> None:
    """Show all photographs of a class in a window of their own, with a search by name."""
    with ui.dialog().props("maximized") as dialog, ui.card().classes("viewer"):
        dialog.props["aria-label"] = safe(class_)
        with ui.element("div").classes("line"):
            with ui.element("h2").classes("col"):
                ui.label(f"{safe(class_, 60)} {count(album.counts[class_])}")
            search = ui.input(placeholder="Find by name").props("clearable debounce=200")
            search.props["aria-label"] = "Find photographs by name"
            everything = kit.action("Choose all", lambda: None)
            kit.icon_action("close", "Close", dialog.close)
        with ui.element("div").classes("col scroll full-width"):
            column = PhotoColumn(work, album, class_, height=0, label=f"All of {class_}")
    search.on_value_change(lambda: column.search(str(search.value or "")))

    def choose_all() -> None:
        column.gallery.choose(range(len(column.photos)))
        work.choose(column)

    everything.on_click(choose_all)
    everything.set_visibility(work.editable)
    work.follow(column)
    await dialog
    choose(None)
    work.follow(None)
    dialog.delete()


def details(studio: Studio, album: Album, do: Callable[[Awaitable[str]], Awaitable[None]]) -> None:
    """Show facts, removed photographs, and the export."""
    opened = album.opened
    if opened is not None:
        _, height, width, _ = opened.decoded.images.shape
        facts = [
            ("Photographs", count(len(opened))),
            ("Size in training", f"{height} × {width} pixels"),
        ]
        if unreadable := len(opened.decoded.unreadable):
            facts.append(("Unreadable", count(unreadable)))
        if left_out := left_out_in_words(opened.decoded.left_out):
            facts.append(("Not used", left_out))
        kit.facts(facts)
    if not album.dataset.made_here:
        kit.note(
            "These photographs belong to their source, which is never changed. You can give them "
            "another class or leave them out here."
        )
    removed = album.left_out().tolist()
    if removed:
        kit.heading(f"Removed photographs ({count(len(removed))})", 3)
        kit.note("They are not used for training; earlier classifiers keep them.")

        def some(low: int, high: int) -> list[GalleryImage]:
            return [
                GalleryImage(album.address(at), f"removed, {album.name(at)}", album.name(at))
                for at in removed[low:high]
            ]

        gallery = ImageGallery(
            "Removed photographs", some(0, 12), count=len(removed), fetch=some,
            on_choose=lambda: None, height=_HEIGHT,
        )  # fmt: skip

        async def restore() -> None:
            chosen = [removed[at] for at in gallery.chosen] or removed
            await do(albums_of(studio).restore(album, chosen))

        kit.action("Restore the chosen, or all", restore)
    _export(studio, album)
    kit.heading("Keys", 3)
    kit.facts([
        ("Arrows", "next photo"), ("Space", "select"), ("Shift", "select a range"),
        ("Ctrl-A, Esc", "select all, none"), ("Enter", "large"), ("1, 2, …", "move to this class"),
        ("Delete", "remove"), ("Ctrl-Z", "undo"),
    ])  # fmt: skip


def export_words(studio: Studio, dataset: LibraryDataset, folder: Path) -> list[str]:
    """The command for an export of photographs with the classes that they have now."""
    labels = studio.sets.corrections_path(dataset.id)
    argv = command("data", "--export", folder.absolute() / "images.npz")
    return [*argv, *([f"--labels={labels}"] if labels.is_file() else []), *dataset.words()]


def _export(studio: Studio, album: Album) -> None:
    """Offer photographs and classes as arrays."""
    kit.note("Photographs and classes as arrays for NumPy and Keras, in one .npz file:")
    status = kit.StatusLine()

    async def write() -> None:
        with status.errors():
            folder = await asyncio.to_thread(new_output_folder, studio.jobs)
            argv = await asyncio.to_thread(export_words, studio, album.dataset, folder)
            title = f"Export of {album.dataset.title}"
            work = await JobAction.ask(studio.jobs, "export", title, argv)
            if not await work.over(status.say, lambda: status.element.is_deleted):
                return
            written, cause = await work.answer(_Exported)
            if written is None:
                status.fail(await asyncio.to_thread(studio.sets.in_names, cause))
                return
            status.clear()
            words = f"{counted(written.images, 'photograph')}, {file_size(written.bytes)}"
            with status.element, ui.element("div").classes("line"):
                ui.label(words)
                ui.link("Download", f"/answers/{work.job.id}.npz")

    kit.action("Export", write)
