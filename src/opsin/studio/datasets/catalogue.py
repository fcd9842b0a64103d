"""Datasets that the user added.

<home>/sets/<id>/set.json          id, title, sources, made_here, created
<home>/sets/<id>/corrections.csv   corrections of its labels (`opsin.studio.datasets.album`)
<home>/sets/<id>/changes.json      what can be undone (`opsin.studio.datasets.photo_files`)
<home>/sets/<id>/look.json         the last check of its images: `opsin data --audit`
<home>/sets/<id>/photos/<title>/   images of a dataset that was made here, a folder a class
<home>/sets/.deleted/              removed datasets, for seven days
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, Field

from opsin.core.recipe import DataRecipe
from opsin.core.storage import storage_errors, write_json
from opsin.data.audit import Finding
from opsin.data.image_tree import holds_images
from opsin.data.sources import named
from opsin.data.split import TRAIN, part_named
from opsin.studio.datasets.dataset_search import key_of
from opsin.studio.datasets.uploads import class_name, file_name
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job, command
from opsin.studio.jobs.queue import Queue
from opsin.studio.people import record, require
from opsin.studio.trash import KEPT, Removed, Trash
from opsin.studio.words import opaque

_TITLE_MOST: Final = 200


class LibraryDataset(BaseModel, frozen=True):
    """A dataset as the studio knows it: ``set.json``."""

    id: str
    title: str
    sources: tuple[str, ...] = Field(min_length=1)
    made_here: bool = False
    created: float = Field(default_factory=time.time)

    @property
    def place(self) -> Path:
        """Where its images lie, if it is no named source."""
        return Path(self.sources[0])

    def words(self) -> list[str]:
        """The command-line arguments for its images, the sources last."""
        return ["--", *self.sources]

    def recipe(self) -> DataRecipe:
        """The recipe for reading it, without its corrections."""
        return DataRecipe.of(*self.sources)

    @classmethod
    def read(cls, folder: Path) -> LibraryDataset:
        """Read it from its folder, or raise an `OSError` or a `ValueError`."""
        return cls.model_validate(json.loads((folder / "set.json").read_text(encoding="utf-8")))


class AuditResult(BaseModel):
    """The answer of a dataset's last check, its job, and the state of the files: ``look.json``."""

    key: str = ""
    job: str = ""
    images: int = 0  # none until the job is done
    findings: tuple[Finding, ...] = ()


class Library:
    """The user's datasets, each a folder of small files; sources elsewhere are never changed."""

    def __init__(self, home: Path, jobs: Queue) -> None:
        self._folder = home.absolute() / "sets"
        self._trash = Trash(self._folder)
        self._jobs = jobs
        # Held while the studio's own files are written or moved; after a dataset's `lock`.
        self._guard = threading.RLock()
        self._locks: dict[str, threading.RLock] = {}
        # Replaced by each change, so that pages read it without a lock and without the disk.
        self._known: dict[str, LibraryDataset] = {}
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            self._take_in(folder.name)
        self.sweep()

    def all(self) -> list[LibraryDataset]:
        """All datasets, the newest first."""
        return sorted(self._known.values(), key=lambda dataset: (-dataset.created, dataset.id))

    def get(self, set_id: str) -> LibraryDataset:
        """A dataset, or `NotThere`."""
        if (dataset := self._known.get(set_id)) is None:
            raise NotThere("There is no such project", "Go back to your projects.")
        return dataset

    def folder(self, set_id: str) -> Path:
        """The folder of a dataset's files."""
        return self._folder / self.get(set_id).id

    def corrections_path(self, set_id: str) -> Path:
        """The path of a dataset's corrections, which may not exist."""
        return self.folder(set_id) / "corrections.csv"

    def lock(self, set_id: str) -> threading.RLock:
        """What is held during changes of a dataset's files, and while it is removed."""
        return self._locks.setdefault(set_id, threading.RLock())

    # What is added and removed.

    def add_source(self, source: str, *, title: str | None = None) -> LibraryDataset:
        """Add a named source, or a folder or file of this machine by its path; once."""
        require("owner")  # before anything tells which files are there
        if named.is_place(source):
            source = str(Path(source).absolute())
        name = title or Path(source).name or source
        key_of(DataRecipe.of(source), name)
        id_ = id_of_sources((source,))
        return self._known.get(id_) or self._add(id_, name, source)

    def new_place(self, title: str) -> Path:
        """A new folder for an upload; runs are named after it."""
        require("owner")
        return self._folder / secrets.token_hex(8) / "photos" / file_name(title)

    def add_upload(self, path: Path, *, title: str) -> LibraryDataset:
        """Add an upload in a `new_place`; with parts for training and test, it stays as it is."""
        tops = [folder for folder in path.iterdir() if folder.is_dir()]
        parts = any(
            part_named(folder.name) == TRAIN and any(inner.is_dir() for inner in folder.iterdir())
            for folder in tops
        )
        id_ = path.relative_to(self._folder).parts[0]
        return self._add(id_, title, str(path), made_here=not parts)

    def new_empty(self, classes: Sequence[str], *, title: str = "Mine") -> LibraryDataset:
        """Add a dataset that has classes and no images yet."""
        names, folder = [class_name(name) for name in classes], self.new_place(title)
        with storage_errors(folder):
            for name in names:
                (folder / name).mkdir(parents=True)
        return self.add_upload(folder, title=title)

    def remove(self, set_id: str, token: str = "") -> str:
        """Remove a dataset; the token restores it for seven days. Sources elsewhere stay."""
        require("owner")
        record(f"removed the project {self.get(set_id).title}")
        with self.lock(set_id), self._guard:
            token = self._trash.put(self.get(set_id).id, token)
            self._known = {key: other for key, other in self._known.items() if key != set_id}
        return token

    def rename(self, set_id: str, title: str) -> None:
        """Give a dataset another title."""
        require("owner")
        title = title.strip()[:_TITLE_MOST]
        with self._guard:
            known = self.get(set_id)
            if title:
                self._write(known.model_copy(update={"title": title}))
                record(f"renamed the project {known.title} to {title}")

    def removed(self) -> list[Removed]:
        """The datasets that can be restored, the last removed first."""
        items = self._trash.removed(lambda place: LibraryDataset.read(place).title)
        return [item for item in items if (item.place / "set.json").is_file()]

    def restore(self, token: str) -> LibraryDataset:
        """Restore a removed dataset with its corrections."""
        require("owner")
        [removed] = self._trash.get(token)
        with self.lock(removed.folder), self._guard:
            if removed.folder in self._known:  # added anew meanwhile
                self.remove(removed.folder)
            elif os.path.lexists(self._folder / removed.folder):  # by a write that came late
                self._trash.put(removed.folder)
            self._trash.restore(removed)
            # Its check may have been broken off by the removal.
            (self._folder / removed.folder / "look.json").unlink(missing_ok=True)
            self._take_in(removed.folder)
        record(f"restored the project {self.get(removed.folder).title}")
        return self.get(removed.folder)

    def sweep(self, older: float = KEPT) -> None:
        """Delete datasets removed so many seconds ago, and uploads that became none in a week."""
        require("owner")
        self._trash.sweep(older)
        for folder in list(self._folder.iterdir()) if self._folder.is_dir() else ():
            with contextlib.suppress(OSError):
                aged = time.time() - folder.stat().st_mtime > KEPT
                if aged and not (folder / "set.json").is_file() and folder != self._trash.path:
                    shutil.rmtree(folder, ignore_errors=True)

    # What is in them.

    def look(self, set_id: str) -> Job | None:
        """Start a check of a dataset's images if they are others than at the last one."""
        dataset = self.get(set_id)
        if dataset.made_here and not holds_images(dataset.place):
            return None
        found = key_of(dataset.recipe(), dataset.title), dataset.words()
        key = hashlib.sha256(repr(found).encode()).hexdigest()
        with self._guard:
            last, job = self.looked(set_id), None
            if last is not None:
                job = next((job for job in self._jobs.jobs() if job.id == last.job), None)
            if job and not job.over:
                return job
            if last and last.key == key and (last.images or job):
                return None  # if it failed, it would fail again
            argv = [*command("data", "--audit", "--no-draw"), *dataset.words()]
            job = self._jobs.add("look", f"Look at {dataset.title}", argv)
            look = AuditResult(key=key, job=job.id)
            write_json(self.folder(set_id) / "look.json", look.model_dump())
        return job

    def looked(self, set_id: str) -> AuditResult | None:
        """The last check, with its answer once its job is done; reads small files only."""
        file = self.folder(set_id) / "look.json"
        with self._guard, contextlib.suppress(OSError, ValueError, RecursionError, NotThere):
            look = AuditResult.model_validate(json.loads(file.read_text(encoding="utf-8")))
            if not look.images and self._jobs.get(look.job).state == "done":
                answer = self._jobs.output(look.job, AuditResult) or look
                look = answer.model_copy(update={"key": look.key, "job": look.job})
                # Pydantic's own JSON would alter class names that are not valid Unicode.
                write_json(file, look.model_dump())
            return look
        return None

    def in_names(self, text: str) -> str:
        """Replace the paths of datasets in a text by their titles."""
        places = {source: dataset.title for dataset in self.all() for source in dataset.sources}
        for source in sorted(filter(os.path.isabs, places), key=len, reverse=True):
            text = text.replace(source, places[source])
        return text

    def _add(self, id_: str, title: str, source: str, *, made_here: bool = False) -> LibraryDataset:
        require("owner")
        title = title.strip()[:_TITLE_MOST] or "Upload"
        record(f"added the project {title}")
        return self._write(
            LibraryDataset(id=id_, title=title, sources=(source,), made_here=made_here)
        )

    def _write(self, dataset: LibraryDataset) -> LibraryDataset:
        with self._guard:
            write_json(self._folder / dataset.id / "set.json", dataset.model_dump())
            self._known = {**self._known, dataset.id: dataset}
        return dataset

    def _take_in(self, name: str) -> None:
        """Take in the dataset of a folder; damaged ones, and what is none, are left out."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if re.fullmatch(r"[0-9a-f]{16}", name):
                dataset = LibraryDataset.read(self._folder / name)
                place = dataset.place.absolute()
                own = place.parent == self._folder / name / "photos" and place.name != ".."
                ours = dataset.made_here and own and not place.is_symlink()
                dataset = dataset.model_copy(update={"id": name, "made_here": ours})
                self._known = {**self._known, name: dataset}


def id_of_sources(sources: Sequence[str]) -> str:
    """The id of these sources, which is the same for the same sources."""
    return opaque(json.dumps([list(sources), {}]))
