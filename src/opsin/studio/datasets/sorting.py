"""Asks the process of a project that groups photographs without a class and asks about them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from opsin.core.child_process import error_from
from opsin.studio.child import Child, OnProgress
from opsin.studio.datasets.catalogue import Library, LibraryDataset
from opsin.studio.datasets.uploads import TRAY

# Most processes, and seconds without a question after which one ends.
_MOST: Final = 2
_IDLE: Final = 900.0


class _Sorter(Child):
    """The process of one project, which answers one question at a time."""

    def __init__(self, words: list[str]) -> None:
        # With more, its small matrices wait for whatever else the machine does.
        super().__init__("opsin.labelling.label_worker", *words, one_thread=True)
        self.turn, self.waiting = asyncio.Lock(), list[OnProgress]()
        self.timer: asyncio.TimerHandle | None = None

    def tell(self, what: str, done: int, total: int) -> None:
        for each in self.waiting:
            each(what, done, total)


class Sorting:
    """What is known of the photographs without a class, for all windows."""

    def __init__(self, sets: Library) -> None:
        self._sets = sets
        self._sorters: dict[str, _Sorter] = {}  # the least recently used first

    async def ask(
        self, set_id: str, do: str, *, on_progress: OnProgress = lambda *_: None, **options: object
    ) -> Any:
        """The answer to a question; all who wait hear how far the work is."""
        sorter = self._sorter(self._sets.get(set_id))
        sorter.waiting.append(on_progress)
        try:
            async with sorter.turn:
                if sorter.timer is not None:
                    sorter.timer.cancel()
                try:
                    answer, _ = await sorter.ask({"do": do, "with": options}, b"", sorter.tell)
                except BaseException:
                    sorter.kill()
                    raise
                sorter.timer = asyncio.get_running_loop().call_later(_IDLE, sorter.kill)
        finally:
            sorter.waiting.remove(on_progress)
        if "error" in answer:
            place = str(self._sets.get(set_id).place)  # no page shows a path
            raise error_from([part.replace(place, "the project") for part in answer["error"]])
        return answer["said"]

    def _sorter(self, dataset: LibraryDataset) -> _Sorter:
        sorter = self._sorters.pop(dataset.id, None)
        if sorter is None or not (sorter.alive or sorter.process is None):
            folder = self._sets.folder(dataset.id)
            files = self._sets.corrections_path(dataset.id), folder / "labels.sqlite"
            sorter = _Sorter(
                [str(path) for path in (dataset.place, dataset.place.parent / TRAY, *files)]
            )
        self._sorters[dataset.id] = sorter
        for id_ in [*self._sorters][:-_MOST]:
            if not self._sorters[id_].turn.locked():
                self._sorters.pop(id_).kill()
        return sorter

    async def stop(self) -> None:
        """End all processes."""
        await asyncio.gather(*(sorter.end() for sorter in self._sorters.values()))
