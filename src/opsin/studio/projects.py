"""Projects: a name, its images, and the classifiers that learnt from them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from opsin.core.storage import write_json
from opsin.studio.datasets.catalogue import Library, LibraryDataset, id_of_sources
from opsin.studio.errors import NotThere
from opsin.studio.people import record, require
from opsin.studio.runs.run_index import RunIndex, RunRow


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
        if run.given_name:
            return run.given_name
        number = next((i for i, row in enumerate(reversed(self.runs)) if row.id == run.id), 0)
        return f"{self.name} {number + 1}"

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

    def __init__(self, sets: Library, runs: RunIndex, home: Path) -> None:
        self._sets, self._runs = sets, runs
        self._file = home.absolute() / "projects.json"
        self._names: dict[str, str] = {}  # of projects without a dataset
        with suppress(OSError, ValueError, RecursionError):
            self._names = {**json.loads(self._file.read_text(encoding="utf-8"))}

    def all(self) -> list[Project]:
        """All projects, the last used first, as of the last scan of the runs."""
        datasets = {dataset.id: dataset for dataset in self._sets.all()}
        by_sources = {dataset.sources: dataset.id for dataset in reversed(datasets.values())}
        runs: dict[str, list[RunRow]] = {id_: [] for id_ in datasets}
        for row in sorted(self._runs.rows(), key=lambda row: -(row.started or 0)):
            runs.setdefault(by_sources.get(row.places) or id_of_run(row), []).append(row)
        projects = [
            Project(
                id_,
                datasets[id_].title
                if id_ in datasets
                else self._names.get(id_) or rows[0].source or rows[0].name,
                datasets.get(id_),
                tuple(rows),
            )
            for id_, rows in runs.items()
        ]
        return sorted(projects, key=lambda project: project.last_used, reverse=True)

    def get(self, project_id: str) -> Project:
        """The project of an id, or `NotThere`."""
        project = next((item for item in self.all() if item.id == project_id), None)
        if project is None:
            raise NotThere("There is no such project", "Go back to your projects.")
        return project

    def of_run(self, run_id: str) -> Project:
        """The project of a run, or `NotThere`."""
        projects = self.all()
        found = next((p for p in projects if any(row.id == run_id for row in p.runs)), None)
        if found is None:
            raise NotThere("There is no such classifier", "Go back to your projects.")
        return found

    def rename(self, project_id: str, name: str) -> None:
        """Give a project another name."""
        require("owner")
        project = self.get(project_id)
        if project.dataset is not None:
            self._sets.rename(project.id, name)
        elif name.strip():
            self._names = {**self._names, project.id: name.strip()}
            write_json(self._file, self._names)
            record(f"renamed the project {project.name} to {name.strip()}")


def id_of_run(row: RunRow) -> str:
    """The id of the project of a run whose images are no dataset of the studio."""
    return id_of_sources(row.places, {}) if row.places else row.id
