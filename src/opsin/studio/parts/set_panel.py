"""A set at a glance: what it holds, what was found, and what can be done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nicegui import ui

from opsin.core.errors import OpsinError
from opsin.core.format import count
from opsin.data.sources import named
from opsin.studio import words
from opsin.studio.errors import NotThere
from opsin.studio.parts import layout

if TYPE_CHECKING:
    from opsin.studio.datasets.catalogue import DatasetSummary, LibraryDataset
    from opsin.studio.jobs.job import Job
    from opsin.studio.state import Studio

# Classes that a panel names; the set's own page has all of them.
_NAMED: Final = 8
_CLASS_MOST: Final = 32

CSS: Final = """
.op-set-body { min-height: 10rem; }
.op-set-panel h2 { margin: 0; overflow-wrap: anywhere; }
.op-set-panel h2 a { text-decoration: none; }
.op-set-counts { display: flex; flex-wrap: wrap; gap: .15rem .9rem; margin: 0 0 .6rem; padding: 0;
  list-style: none; color: var(--muted); font-size: .92rem; }
.op-set-counts li { display: flex; gap: .35rem; overflow-wrap: anywhere; min-width: 0; }
.op-sets { margin: 0 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.op-set-counts b { color: var(--ink); font-weight: 600; flex: none; }
.op-set-panel .op-figures { margin: .7rem 0 .6rem;
  grid-template-columns: repeat(3, minmax(0, 1fr)); }
.op-set-panel .op-actions { margin-bottom: 0; }
.op-set-panel .op-actions a.op-button { font-weight: 500; }
"""


class SetPanel:
    """A panel of one set, filled once its numbers are known.

    Args:
        studio: What all windows share.
        the_set: The set.
        on_remove: Called with the dataset to remove it.
    """

    def __init__(
        self,
        studio: Studio,
        the_set: LibraryDataset,
        on_remove: Callable[[LibraryDataset], object] | None,
    ) -> None:
        self._studio, self._set, self._on_remove = studio, the_set, on_remove
        self._shown: DatasetSummary | None = None
        with ui.element("section").classes("op-panel op-set-panel") as self.element:
            self.element._props["aria-label"] = words.safe(the_set.title, 80)
            with ui.element("h2"):
                ui.link(words.safe(the_set.title, 80), f"/data/{the_set.id}")
            ui.label(_origin(the_set)).classes("op-muted")
            self._body = ui.element("div").classes("op-set-body")
            with self._body:
                ui.label("Counting …").classes("op-muted")

    @property
    def looking(self) -> bool:
        """Whether a job is known that still looks at the set."""
        return bool(self._shown and self._shown.job and not self._shown.job.over)

    async def fill(self) -> None:
        """Look at the disk, and show what is there now."""
        try:
            glance = await asyncio.to_thread(self._studio.sets.glance, self._set.id)
        except NotThere:
            return  # it was removed meanwhile, and the list is built anew
        except OpsinError as error:
            glance = None
            fault = str(error)
        job = glance.job if glance else None
        doing = await asyncio.to_thread(self._doing, job) if job and not job.over else ""
        if self.element.is_deleted or (glance is not None and glance == self._shown):
            return
        self._shown = glance
        self._body.clear()
        with self._body:
            if glance is None:
                layout.error_line(fault)
            else:
                self._numbers(glance)
                self._state(glance, doing)
            self._actions(glance)

    def _numbers(self, glance: DatasetSummary) -> None:
        counts, found = glance.counts, glance.look.found.findings if glance.look else None
        layout.figures(
            [
                ("Classes", count(len(counts)) if counts is not None else "–"),
                ("Images", count(sum(counts.values())) if counts is not None else "–"),
                ("Findings", count(len(found)) if found is not None else "–"),
            ]
        )
        with ui.element("ul").classes("op-set-counts").props('aria-label="Images of each class"'):
            for name, number in list((counts or {}).items())[:_NAMED]:
                with ui.element("li"):
                    ui.label(words.safe(name, _CLASS_MOST))
                    with ui.element("b"):
                        ui.label(count(number))
            more = len(counts or ()) - _NAMED
            if more > 0:
                with ui.element("li"):
                    ui.label(f"and {count(more)} more")
        if found:
            worst = f"{words.safe(found[0].title, 160)} ({count(found[0].count)})"
            ui.label(f"Most serious: {worst}").classes("op-muted")

    def _state(self, glance: DatasetSummary, doing: str) -> None:
        job = glance.job
        if job is not None and job.state in {"failed", "stopped"}:
            layout.error_line(job.cause or "The check was stopped.")
        elif job is not None:
            with ui.element("p").classes("op-muted"):
                ui.label(doing)
        elif glance.look is None and glance.counts and not any(glance.counts.values()):
            ui.label("No images yet: open it, and take some with the camera.").classes("op-muted")
        elif glance.look is None:
            ui.label("These images have not been checked yet.").classes("op-muted")

    def _doing(self, job: Job) -> str:
        if job.pending:
            return "Waiting to be checked."
        said: list[str] = []
        with contextlib.suppress(NotThere):  # the job was just removed
            said = self._studio.jobs.log_tail(job.id, 1)
        what = f": {words.safe(said[0], 120)}" if said else " …"
        return f"Reading, and looking for duplicates, leaks and odd images{what}"

    def _actions(self, glance: DatasetSummary | None) -> None:
        with ui.element("div").classes("op-actions"):
            if glance is not None:
                ui.link("Open", f"/data/{self._set.id}").classes("op-button")
                ui.link("Train with these", f"/train?set={self._set.id}")
            bare = glance and glance.counts is not None and not any(glance.counts.values())
            if not bare and not self.looking:
                word = (
                    "Check again" if glance and (glance.look or glance.job) else "Check the images"
                )
                ui.button(word, on_click=self._look).props("outline")
            if self._on_remove:
                remove = self._on_remove
                ui.button("Remove", on_click=lambda: remove(self._set)).props("outline")

    async def _look(self) -> None:
        try:
            job = await asyncio.to_thread(self._studio.sets.look, self._set.id, again=True)
        except OpsinError as error:
            with self._body:
                layout.error_line(str(error))
            return
        if job is None:
            ui.notify("Nothing has changed since the last check.")
        self._studio.changed.emit("jobs")
        self._studio.changed.emit(f"set:{self._set.id}")


def _uploaded(the_set: LibraryDataset) -> bool:
    """Tell an archive in the studio's own folder, which is called by the set's id."""
    return Path(the_set.sources[0]).parent.name == the_set.id


def _origin(the_set: LibraryDataset) -> str:
    """Say where a set's images come from."""
    (first, *others) = the_set.sources
    if the_set.made_here:
        text = "created in the studio"
    elif first in named.NAMES:
        text = f"known by the name {first}"
    else:
        path = Path(first)
        place = f"{path.parent.name}/{path.name}"
        text = "uploaded archive" if _uploaded(the_set) else words.safe(place, 120)
    return text + (f" and {len(others)} more" if others else "")
