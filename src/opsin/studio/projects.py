"""Projects: a name, its images, and the classifiers that learnt from them.

<home>/projects.json  names of projects without a dataset
<home>/removed.json   what was removed in one go, by its tokens in the trash
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, TypeAdapter

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.core.storage import write_json
from opsin.studio.datasets.catalogue import Library, LibraryDataset, id_of_sources
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import Queue
from opsin.studio.people import record, require
from opsin.studio.runs.run_index import RunIndex, RunRow
from opsin.studio.trash import KEPT, Removed

T = TypeVar("T")


class _Together(BaseModel):
    """A project that was removed: the tokens of its dataset and of its runs."""

    name: str
    when: float
    sets: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


_NAMES: Final = TypeAdapter(dict[str, str])
_REMOVED: Final = TypeAdapter(dict[str, _Together])


@dataclass(frozen=True)
class Project:
    """A dataset of the studio with its classifiers; or classifiers of other images.

    Args:
        id: Id of the dataset, or the one that a dataset of these images would have.
        name: Name of the dataset, or of the source.
        dataset: The dataset; ``None`` where only classifiers are known.
        runs: All trainings, the newest first.
    """

    id: str
    name: str
    dataset: LibraryDataset | None
    runs: tuple[RunRow, ...] = ()

    @property
    def classifiers(self) -> list[RunRow]:
        """The runs that can answer, the newest first."""
        return [row for row in self.runs if row.has_classifier]

    @property
    def last_used(self) -> float:
        """When it was made, or trained last."""
        created = self.dataset.created if self.dataset else 0.0
        return max([created, *(row.started or 0.0 for row in self.runs)])

    def title_of(self, run: RunRow) -> str:
        """A classifier's name: its own, or the project's with its number."""
        at = next((i for i, row in enumerate(reversed(self.runs), 1) if row.id == run.id), 1)
        return run.given_name or f"{self.name} {run.number or at}"

    def next_title(self, jobs: Iterable[Job]) -> str:
        """The name of the next training; ``jobs`` are the project's trainings."""
        numbers = [row.number for row in self.runs] + [job.number for job in jobs]
        return f"{self.name} {max([len(self.runs), *numbers]) + 1}"

    def classifier(self, run_id: str = "") -> RunRow | None:
        """The classifier of an id, or the newest; ``None`` if there is none yet."""
        rows = self.classifiers
        if run_id:
            rows = [row for row in rows if row.id == run_id]
            if not rows:
                raise NotThere("There is no such classifier here", "Choose another one.")
        return next(iter(rows), None)


class Projects:
    """All datasets and classifiers, put together by their images."""

    def __init__(self, sets: Library, runs: RunIndex, jobs: Queue, home: Path) -> None:
        self._sets, self._runs, self._jobs = sets, runs, jobs
        self._home = home.absolute()
        self._guard = threading.Lock()  # of the files
        self._names = _read(self._home / "projects.json", _NAMES) or {}

    def training_inputs(
        self, dataset: LibraryDataset
    ) -> tuple[list[str], Path | None, RunDirectory | None]:
        """The words of a dataset, its corrections, and the run whose parts a training keeps."""
        corrections = self._sets.corrections_path(dataset.id)
        parts = self._runs.last_of(dataset.recipe())
        return dataset.words(), corrections if corrections.is_file() else None, parts

    def all(self) -> list[Project]:
        """All projects, the last used first, as of the last scan of the runs."""
        datasets = {dataset.id: dataset for dataset in self._sets.all()}
        by_sources = {dataset.sources: dataset.id for dataset in reversed(datasets.values())}
        runs: dict[str, list[RunRow]] = {id_: [] for id_ in datasets}
        for row in self._runs.rows():
            runs.setdefault(by_sources.get(row.places) or id_of_run(row), []).append(row)
        projects = []
        for id_, rows in runs.items():
            dataset = datasets.get(id_)
            # The name that it had before it had a dataset.
            name = self._names.get(id_of_run(rows[0]) if rows else id_)
            usual = dataset.title if dataset else rows[0].source or rows[0].name
            projects.append(Project(id_, name or usual, dataset, tuple(rows)))
        return sorted(projects, key=lambda project: project.last_used, reverse=True)

    def get(self, project_id: str) -> Project:
        """The project of an id, also of the one before it had a dataset, or `NotThere`."""
        projects = self.all()
        for project in projects:
            if project.id == project_id:
                return project
        for project in projects:
            if any(id_of_run(row) == project_id for row in project.runs):
                return project
        raise NotThere("There is no such project", "Go back to your projects.")

    def of_run(self, run_id: str) -> Project:
        """The project of a run, or `NotThere`."""
        for project in self.all():
            if any(row.id == run_id for row in project.runs):
                return project
        raise NotThere("There is no such classifier", "Go back to your projects.")

    def rename(self, project_id: str, name: str) -> None:
        """Give a project another name."""
        require("owner")
        project = self.get(project_id)
        name, before = name.strip(), {id_of_run(row) for row in project.runs} | {project.id}
        if not name:
            return
        with self._guard:
            names = {id_: known for id_, known in self._names.items() if id_ not in before}
            if project.dataset is None:
                names[project.id] = name
                record(f"renamed the project {project.name} to {name}")
            else:
                self._sets.rename(project.id, name)
            if names != self._names:
                write_json(self._home / "projects.json", names)
                self._names = names

    def remove(self, project_id: str) -> str:
        """Remove a project with its classifiers; the token restores all of it for seven days."""
        require("owner")
        project = self.get(project_id)
        jobs = self._jobs.of_project(project.id)
        if any(row.state == "running" for row in project.runs) or not all(job.over for job in jobs):
            raise RunError(f"{project.name} is being trained", "Stop the training first.")
        runs = tuple(self._runs.delete(row.id) for row in project.runs)
        sets = (self._sets.remove(project.id),) if project.dataset else ()
        token = (sets + runs)[0]
        with self._guard:
            together = _Together(name=project.name, when=time.time(), sets=sets, runs=runs)
            self._write_removed({**self._read_removed(), token: together})
        return token

    def removed(self) -> list[Removed]:
        """The projects and classifiers that can be restored, the last removed first."""
        waiting = {item.token: item for item in (*self._sets.removed(), *self._runs.deleted())}
        items = []
        for token, project in self._read_removed().items():
            tokens = {*project.sets, *project.runs} & waiting.keys()
            if tokens:
                items.append(Removed(token, "", project.name, project.when))
            waiting = {key: item for key, item in waiting.items() if key not in tokens}
        return sorted([*items, *waiting.values()], key=lambda item: item.when, reverse=True)

    def restore(self, token: str) -> None:
        """Restore what a token stands for, as far as it is still there, or `NotThere`."""
        require("owner")
        with self._guard:
            removed = self._read_removed()
            together = removed.pop(token, _Together(name="", when=0, sets=(token,), runs=(token,)))
            sets = {item.token for item in self._sets.removed()}.intersection(together.sets)
            runs = {item.token for item in self._runs.deleted()}.intersection(together.runs)
            if not sets | runs:
                raise NotThere("What was removed is gone for good", "Make it again.")
            for run in runs:
                self._runs.restore(run)
            for dataset in sets:
                self._sets.restore(dataset)
            self._write_removed(removed)

    def _read_removed(self) -> dict[str, _Together]:
        return _read(self._home / "removed.json", _REMOVED) or {}

    def _write_removed(self, removed: dict[str, _Together]) -> None:
        kept = {key: item for key, item in removed.items() if time.time() - item.when < KEPT}
        path = self._home / "removed.json"
        write_json(path, {key: item.model_dump() for key, item in kept.items()})


def id_of_run(row: RunRow) -> str:
    """The id of the project of a run whose images are no dataset of the studio."""
    return id_of_sources(row.places, {}) if row.places else row.id


def _read(path: Path, kind: TypeAdapter[T]) -> T | None:
    with suppress(OSError, ValueError, RecursionError):
        return kind.validate_python(json.loads(path.read_text(encoding="utf-8")))
    return None
