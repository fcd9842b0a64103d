"""Asks the process of a project that groups photographs without a class and asks about them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import OpsinError
from opsin.labelling.label_file import LabelFile
from opsin.studio.child import Child, OnProgress
from opsin.studio.datasets.catalogue import Library
from opsin.studio.datasets.uploads import TRAY

# Most processes, and seconds without a question after which one ends.
_MOST: Final = 2
_IDLE: Final = 900.0


def labels_of(sets: Library, set_id: str) -> Path:
    """The file of who said what about a dataset's photographs."""
    return sets.folder(set_id) / "labels.sqlite"


def set_aside(labels: Path) -> dict[str, str]:
    """What was said instead of a class about photographs, by their names; none if damaged."""
    said = {"none": "none of the classes", "unclear": "unclear"}
    if labels.is_file():
        with contextlib.suppress(OpsinError), contextlib.closing(LabelFile(labels)) as file:
            return {one.name: said[one.answer] for one in file.now().values() if one.answer in said}
    return {}


class _Sorter(Child):
    """The process of one project, which answers one question at a time."""

    def __init__(self, place: Path, *files: Path) -> None:
        module, words = "opsin.labelling.label_worker", map(str, files)
        # With more threads, its small matrices wait for whatever else the machine does.
        super().__init__(module, *words, place=place, idle=_IDLE, one_thread=True)
        self.turn, self.waiting = asyncio.Lock(), list[OnProgress]()

    def tell(self, what: str, done: int, total: int) -> None:
        for each in self.waiting:
            each(what, done, total)


class Sorting:
    """What is known of the photographs without a class, for all windows."""

    def __init__(self, sets: Library) -> None:
        self._sets = sets
        self._sorters: dict[str, _Sorter] = {}  # the least recently used first

    async def ask(
        self,
        set_id: str,
        do: str,
        who: str,
        *,
        on_progress: OnProgress = lambda *_: None,
        **asked: object,
    ) -> Any:
        """The answer to somebody's question; all who wait hear how far the work is."""
        sorter = self._sorter(set_id)
        sorter.waiting.append(on_progress)
        try:
            async with sorter.turn:
                question = {"do": do, "who": who, "asked": asked}
                answer, _ = await sorter.ask(question, b"", sorter.tell)
        finally:
            sorter.waiting.remove(on_progress)
        return answer["said"]

    async def leave(self, set_id: str, who: str) -> None:
        """Let others be asked what somebody was asked."""
        if set_id in self._sorters and self._sorters[set_id].alive:
            with contextlib.suppress(OpsinError):
                await self.ask(set_id, "leave", who)

    def _sorter(self, set_id: str) -> _Sorter:
        dataset, sorter = self._sets.get(set_id), self._sorters.pop(set_id, None)
        if sorter is None:
            tray, corrections = dataset.place.parent / TRAY, self._sets.corrections_path(set_id)
            files = dataset.place, tray, corrections, labels_of(self._sets, set_id)
            sorter = _Sorter(self._sets.folder(set_id), *files)
        self._sorters[set_id] = sorter
        for other in [*self._sorters][:-_MOST]:
            if not self._sorters[other].waiting:
                self._sorters.pop(other).kill()
        return sorter

    async def stop(self) -> None:
        """End all processes."""
        await asyncio.gather(*(sorter.end() for sorter in self._sorters.values()))
