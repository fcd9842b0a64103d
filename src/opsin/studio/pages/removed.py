"""Removed projects and classifiers, which can be restored.

<home>/removed.json  what was removed in one go, by its tokens in the trash
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nicegui import ui
from pydantic import BaseModel, TypeAdapter

from opsin.core.errors import RunError
from opsin.core.format import ago, count, day
from opsin.core.storage import write_json
from opsin.studio.trash import KEPT, Removed
from opsin.studio.ui import kit
from opsin.studio.words import safe

if TYPE_CHECKING:
    from opsin.studio.state import Studio

# Rows that are shown: a page of hundreds of elements takes seconds.
_SHOWN: Final = 50
_GUARD: Final = threading.Lock()


class _Together(BaseModel):
    """A project that was removed: the tokens of its dataset and of its runs."""

    name: str
    when: float
    sets: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


_STORED: Final = TypeAdapter(dict[str, _Together])


def remove_project(studio: Studio, project_id: str) -> str:
    """Remove a project with its classifiers; the token restores all of it for seven days."""
    project = studio.projects.get(project_id)
    if any(row.state == "running" for row in project.runs):
        raise RunError(f"{project.name} is being trained", "Stop the training first.")
    runs = tuple(studio.runs.delete(row.id) for row in project.runs)
    sets = (studio.sets.remove(project.id),) if project.dataset else ()
    token = (sets + runs)[0]
    with _GUARD:
        known = _read(studio)
        known[token] = _Together(name=project.name, when=time.time(), sets=sets, runs=runs)
        _write(studio, known)
    return token


def list_removed(studio: Studio) -> list[Removed]:
    """The projects and classifiers that can be restored, the last removed first."""
    waiting = {item.token: item for item in (*studio.sets.removed(), *studio.runs.deleted())}
    items = []
    for token, project in _read(studio).items():
        tokens = {*project.sets, *project.runs} & waiting.keys()
        if tokens:
            items.append(Removed(token, "", project.name, project.when))
        waiting = {key: item for key, item in waiting.items() if key not in tokens}
    return sorted([*items, *waiting.values()], key=lambda item: item.when, reverse=True)


def restore(studio: Studio, token: str) -> None:
    """Restore what a token stands for, or `NotThere`."""
    with _GUARD:
        known = _read(studio)
        is_set = token in {item.token for item in studio.sets.removed()}
        alone = _Together(name="", when=0, sets=(token,) * is_set, runs=(token,) * (not is_set))
        together = known.pop(token, alone)
        for run in together.runs:
            studio.runs.restore(run)
        for dataset in together.sets:
            studio.sets.restore(dataset)
        _write(studio, known)


def _read(studio: Studio) -> dict[str, _Together]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        text = (studio.settings.home / "removed.json").read_text(encoding="utf-8")
        return _STORED.validate_python(json.loads(text))
    return {}


def _write(studio: Studio, known: dict[str, _Together]) -> None:
    kept = {key: item for key, item in known.items() if time.time() - item.when < KEPT}
    path = studio.settings.home / "removed.json"
    write_json(path, {key: item.model_dump() for key, item in kept.items()})


def removed_list(studio: Studio, items: Sequence[Removed]) -> None:
    """Show what was removed, folded, each with a button that restores it."""

    def build() -> None:
        kit.note("What you remove can be restored for seven days.")
        status = kit.StatusLine()
        for item in items[:_SHOWN]:
            with ui.element("div").classes("line"):
                name = safe(item.name, 80)
                ui.label(name)
                kit.note(f"removed {ago(item.when)}, kept until {day(item.when + KEPT)}")
                button = kit.action("Restore", lambda token=item.token: take(token, status),
                                    needs="owner")  # fmt: skip
                button.props["aria-label"] = f"Restore {name}"

    async def take(token: str, status: kit.StatusLine) -> None:
        with status.errors():
            await asyncio.to_thread(restore, studio, token)
            studio.changed.emit("runs")
            studio.changed.emit("sets")

    kit.question(f"Recently removed ({count(len(items))})", build)
