"""Projects: a name, its images, and the classifiers that learnt from them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RunError
from opsin.studio.datasets.catalogue import Library, LibraryDataset, id_of_sources
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job
from opsin.studio.jobs.queue import Queue
from opsin.studio.people import require
from opsin.studio.runs.run_index import RunIndex, RunRow
from opsin.studio.trash import Removed


@dataclass(frozen=True)
class Project:
    """A dataset of the studio with its classifiers; or classifiers of other images."""

    id: str  # of the dataset, or that which a dataset of these images would have
    name: str  # of the dataset, or of the source
    dataset: LibraryDataset | None
    runs: tuple[RunRow, ...] = ()  # all trainings, the newest first

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

    def __init__(self, sets: Library, runs: RunIndex, jobs: Queue) -> None:
        self._sets, self._runs, self._jobs = sets, runs, jobs

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
            name = dataset.title if dataset else rows[0].source or rows[0].name
            projects.append(Project(id_, name, dataset, tuple(rows)))
        return sorted(projects, key=lambda project: project.last_used, reverse=True)

    def get(self, project_id: str) -> Project:
        """The project of an id, also of the one before it had a dataset, or `NotThere`."""
        projects = {project.id: project for project in self.all()}
        before = {id_of_run(row): project for project in projects.values() for row in project.runs}
        if (project := projects.get(project_id) or before.get(project_id)) is None:
            raise NotThere("There is no such project", "Go back to your projects.")
        return project

    def of_run(self, run_id: str) -> Project:
        """The project of a run, or `NotThere`."""
        of_runs = {row.id: project for project in self.all() for row in project.runs}
        if (project := of_runs.get(run_id)) is None:
            raise NotThere("There is no such classifier", "Go back to your projects.")
        return project

    def remove(self, project_id: str) -> str:
        """Remove a project with its classifiers; the token restores all of it for seven days."""
        require("owner")
        project = self.get(project_id)
        jobs = self._jobs.of_project(project.id)
        if any(row.state == "running" for row in project.runs) or not all(job.over for job in jobs):
            raise RunError(f"{project.name} is being trained", "Stop the training first.")
        token = str(time.time_ns())  # of all together
        for row in project.runs:
            self._runs.delete(row.id, token)
        if project.dataset:
            self._sets.remove(project.id, token)
        return token

    def removed(self) -> list[Removed]:
        """The projects and classifiers that can be restored, the last removed first."""
        items = {item.token: item for item in self._runs.deleted()}
        items |= {item.token: item for item in self._sets.removed()}  # by its name if it has one
        return sorted(items.values(), key=lambda item: item.when, reverse=True)

    def restore(self, token: str) -> None:
        """Restore what was removed together, as far as it is still there, or `NotThere`."""
        require("owner")
        runs = token in {item.token for item in self._runs.deleted()}
        if runs:
            self._runs.restore(token)
        if not runs or token in {item.token for item in self._sets.removed()}:
            self._sets.restore(token)


def id_of_run(row: RunRow) -> str:
    """The id of the project of a run whose images are no dataset of the studio."""
    return id_of_sources(row.places) if row.places else row.id
