"""What else there is about photographs: figures, what was removed, an export, and the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from nicegui import ui
from pydantic import BaseModel

from opsin.core.format import count, counted, file_size
from opsin.data.image_tree import left_out_in_words
from opsin.studio.datasets.album import Album
from opsin.studio.datasets.corrections import OUT
from opsin.studio.jobs.job import command
from opsin.studio.jobs.queue import JobAction, new_output_folder
from opsin.studio.ui import kit
from opsin.studio.ui.gallery import GalleryImage, ImageGallery

if TYPE_CHECKING:
    from opsin.studio.context import Studio
    from opsin.studio.datasets.catalogue import LibraryDataset

_HEIGHT: Final = 440


class _Exported(BaseModel):
    """The displayed part of ``opsin data --export --json``."""

    images: int
    bytes: int


def details(
    studio: Studio, album: Callable[[], Album], do: Callable[[Awaitable[str]], Awaitable[None]]
) -> Callable[[], object]:
    """Show all of it; return what shows it again with the photographs as they are then."""

    @ui.refreshable
    def changing() -> None:
        _facts(album())
        _removed(studio, album(), do)

    changing()
    _export(studio, album().dataset)
    kit.heading("Keys", 3)
    kit.facts([
        ("Arrows", "next photo"), ("Space", "select"), ("Shift", "select a range"),
        ("Ctrl-A, Esc", "select all, none"), ("Enter", "large"), ("1, 2, …", "move to this class"),
        ("Delete", "remove"), ("Ctrl-Z", "undo"),
    ])  # fmt: skip
    return changing.refresh


def _facts(album: Album) -> None:
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


def _removed(studio: Studio, album: Album, do: Callable[[Awaitable[str]], Awaitable[None]]) -> None:
    """Offer removed photographs again, and forget the classes of those that are gone."""
    if album.gone:
        with ui.element("div").classes("line"):
            kit.note(f"Photographs that you corrected and that are gone: {count(album.gone)}.")
            kit.action(
                "Forget their corrections", lambda: do(studio.albums.forget_gone(album)),
                needs="labeller",
            )  # fmt: skip
    removed = np.flatnonzero(album.labels == OUT).tolist()
    if not removed:
        return
    kit.heading(f"Removed photographs ({count(len(removed))})", 3)
    kit.note("They are not used for training; earlier classifiers keep them.")

    def image(at: int) -> GalleryImage:
        return GalleryImage(album.address(at), f"removed, {album.name(at)}", album.name(at))

    gallery = ImageGallery(
        "Removed photographs", removed, image, on_choose=lambda: None, height=_HEIGHT
    )

    async def restore() -> None:
        chosen = [removed[at] for at in gallery.chosen] or removed
        await do(studio.albums.restore(album, chosen))

    kit.action("Restore the chosen, or all", restore, needs="labeller")


def export_words(studio: Studio, dataset: LibraryDataset, folder: Path) -> list[str]:
    """The command for an export of photographs with the classes that they have now."""
    labels = studio.sets.corrections_path(dataset.id)
    argv = command("data", "--export", folder.absolute() / "images.npz")
    return [*argv, *([f"--labels={labels}"] if labels.is_file() else []), *dataset.words()]


def _export(studio: Studio, dataset: LibraryDataset) -> None:
    """Offer photographs and classes as arrays."""
    kit.note("Photographs and classes as arrays for NumPy and Keras, in one .npz file:")
    status = kit.StatusLine()

    async def write() -> None:
        with status.errors():
            folder = await asyncio.to_thread(new_output_folder, studio.jobs)
            argv = await asyncio.to_thread(export_words, studio, dataset, folder)
            title = f"Export of {dataset.title}"
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
