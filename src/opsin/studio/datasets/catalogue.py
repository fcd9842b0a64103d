"""Datasets that the user added.

<home>/sets/<id>/set.json          id, title, sources, options, made_here, created
<home>/sets/<id>/corrections.csv   corrections of its labels (`opsin.studio.datasets.corrections`)
<home>/sets/<id>/look.json         results of `opsin data --audit`, with time and files
<home>/sets/<id>/rows.npz          rows of each part and each finding
<home>/sets/.deleted/<time>-<id>/  removed sets, for seven days
<home>/pictures/<id>/<title>/      images of sets that were made here, a folder a class
<home>/pictures/<id>/<title>.zip   an archive that was uploaded
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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, Field, TypeAdapter

from opsin.core.errors import SourceError
from opsin.core.recipe import DataRecipe
from opsin.core.recipe_options import options_of
from opsin.core.storage import storage_errors, write_bytes, write_json
from opsin.data import formats
from opsin.data.audit import Finding
from opsin.data.image_tree import holds_images
from opsin.data.images import open_apart
from opsin.data.sources import named
from opsin.studio.datasets.dataset_search import key_of
from opsin.studio.datasets.upload_import import class_name, file_name
from opsin.studio.errors import NotThere
from opsin.studio.jobs.job import Job, command
from opsin.studio.jobs.queue import Queue
from opsin.studio.people import record, require
from opsin.studio.trash import KEPT, Removed, Trash

_TITLE_MOST: Final = 200
_SUFFIX: Final = {"JPEG": ".jpg", "TIFF": ".tif", "PPM": ".ppm", "JPEG2000": ".jp2"}


@dataclass(frozen=True)
class LibraryDataset:
    """A dataset as the studio knows it."""

    id: str
    title: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    options: dict[str, object] = field(default_factory=dict)
    made_here: bool = False
    created: float = field(default_factory=time.time)

    def words(self) -> list[str]:
        """Return the command-line arguments for its images, the sources last."""
        return [*self._flags(), "--", *self.sources]

    def recipe(self) -> DataRecipe:
        """Return the recipe for reading it, without its corrections."""
        options = {name: value for name, value in self.options.items() if name != "labels"}
        return DataRecipe.of(*self.sources, **options)

    def words_to_measure(self) -> list[str]:
        """Return the arguments for evaluating an imported classifier on it."""
        sources = (f"--data={source}" for source in self.sources)
        return [*self._flags("size", "channels"), *sources]

    def _flags(self, *without: str) -> list[str]:
        known = options_of(DataRecipe)
        options = {name: value for name, value in self.options.items() if name not in without}
        return [known[n].argument(known[n].write(v)) for n, v in options.items() if v is not None]


_STORED: Final = TypeAdapter(LibraryDataset)


class AuditAnswer(BaseModel):
    """The displayed part of ``opsin data --audit --json``."""

    images: int
    findings: tuple[Finding, ...] = ()


class AuditResult(BaseModel):
    """The last audit's results, and the state of the files: ``look.json``."""

    key: str
    when: float
    found: AuditAnswer


class Library:
    """The user's datasets, each a folder of small files; their sources are never changed."""

    def __init__(self, home: Path, jobs: Queue) -> None:
        self._folder = home.absolute() / "sets"
        self._trash = Trash(self._folder)
        self._images = home / "pictures"
        self._jobs = jobs
        # Held while a set's files are written or moved.
        self._guard = threading.RLock()
        # Serialises windows, so that complete files are compared.
        self._adding = threading.Lock()
        # Replaced by each change, so that pages read it without a lock and without the disk.
        self._known: dict[str, LibraryDataset] = {}
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            self._read(folder.name)
        self.sweep()

    # What there is.

    def all(self) -> list[LibraryDataset]:
        """Return all sets, the newest first."""
        return sorted(self._known.values(), key=lambda dataset: (-dataset.created, dataset.id))

    def get(self, set_id: str) -> LibraryDataset:
        """Return a set."""
        if (dataset := self._known.get(set_id)) is None:
            raise NotThere("There is no such project", "Go back to your projects.")
        return dataset

    def folder(self, set_id: str) -> Path:
        """Return the folder of a set's small files."""
        return self._folder / self.get(set_id).id

    def corrections_path(self, set_id: str) -> Path:
        """Return the path of a set's corrections, which may not exist."""
        return self.folder(set_id) / "corrections.csv"

    def images_path(self, set_id: str) -> Path:
        """Return the folder of the images of a set that was made here."""
        return Path(self.get(set_id).sources[0])

    # What is added and removed.

    def add_source(
        self, source: str, *, title: str | None = None, **options: object
    ) -> LibraryDataset:
        """Add a named source, or a folder or file of this machine by its path; once."""
        if named.is_place(source):
            source = str(Path(source).absolute())
        name = title or Path(source).name or source
        recipe = DataRecipe.of(source, **options)
        with without_places(source, name):
            key_of(recipe)
        id_ = id_of_sources((source,), options)
        if known := self._known.get(id_):
            return known
        require("owner")
        record(f"added the project {name}")
        return self._add(LibraryDataset(id_, name[:_TITLE_MOST], (source,), options))

    def new_place(self, title: str) -> Path:
        """Return a new folder for an upload; runs are named after it."""
        require("owner")
        return self._images / secrets.token_hex(8) / file_name(title)

    def add_upload(self, path: Path, *, title: str) -> LibraryDataset:
        """Add an upload in a `new_place`: that folder, or an archive beside it."""
        identity = path.relative_to(self._images).parts[0]
        require("owner")
        title = title.strip()[:_TITLE_MOST] or "Upload"
        record(f"added the project {title}")
        return self._add(LibraryDataset(identity, title, (str(path),), made_here=path.is_dir()))

    def new_empty(self, classes: Sequence[str], *, title: str = "") -> LibraryDataset:
        """Add a set that has classes and no images yet."""
        names = [class_name(name) for name in classes]
        if len({name.casefold() for name in names}) < max(2, len(names)):
            raise SourceError(
                "Two classes or more, each of another name, are expected, not "
                f"{', '.join(names) or 'none'}"
            )
        title = (title.strip() or ", ".join(names))[:_TITLE_MOST]
        folder = self.new_place(title)
        with storage_errors(folder):
            for name in names:
                (folder / name).mkdir(parents=True)
        record(f"added the project {title}")
        return self._add(LibraryDataset(folder.parent.name, title, (str(folder),), made_here=True))

    def keep_image(self, set_id: str, class_: str, content: bytes, name: str) -> Path:
        """Add an image to a class of a set that was made here; duplicates are skipped."""
        require("labeller")
        folder = self._made_here(set_id)
        if class_name(class_) != class_ or not _is_folder(folder / class_):
            raise SourceError(f"The project has no class {class_!r:.80}", "Choose one, or add it.")
        _, kind = open_apart(content, name, side=1)
        stem, suffix = file_name(Path(name).stem), Path(name).suffix
        if suffix.lower() not in formats.SUFFIXES:
            suffix = _SUFFIX.get(kind, f".{kind.lower()}")
        path = folder / class_ / f"{stem}{suffix}"
        with self._adding:
            if path.exists() and path.read_bytes() != content:
                digest = hashlib.sha256(content).hexdigest()[:16]
                path = path.with_name(f"{stem}-{digest}{suffix}")
            if not path.exists():
                write_bytes(path, content)
        return path

    def remove(self, set_id: str) -> str:
        """Remove a set; `restore` works for seven days. Sources stay."""
        require("owner")
        record(f"removed the project {self.get(set_id).title}")
        with self._guard:
            token = self._trash.put(set_id)
            self._known = {key: other for key, other in self._known.items() if key != set_id}
        return token

    def rename(self, set_id: str, title: str) -> LibraryDataset:
        """Give a set another title."""
        require("owner")
        title, known = title.strip()[:_TITLE_MOST], self.get(set_id)
        if not title:
            return known
        record(f"renamed the project {known.title} to {title}")
        return self._add(replace(known, title=title))

    def removed(self) -> list[Removed]:
        """Return the sets that can be restored, the last removed first."""
        items = []
        for item in self._trash.removed():
            with contextlib.suppress(OSError, ValueError):
                items.append(replace(item, name=_read_set(self._trash.path / item.token).title))
        return items

    def restore(self, token: str) -> LibraryDataset:
        """Restore a removed set with its corrections."""
        require("owner")
        removed = self._trash.get(token)
        folder = self._folder / removed.folder
        with self._guard:
            if (folder / "set.json").is_file():
                self.remove(removed.folder)
            # An audit that was still running wrote its rows here.
            shutil.rmtree(folder, ignore_errors=True)
            self._trash.restore(removed)
            self._read(removed.folder)
        record(f"restored the project {self.get(removed.folder).title}")
        return self.get(removed.folder)

    def sweep(self, older: float = KEPT) -> None:
        """Delete sets removed seven days ago with their images, and old images without a set."""
        require("owner")
        before = {item.folder for item in self._trash.removed()}
        self._trash.sweep(older)
        kept = {item.folder for item in self._trash.removed()} | self._known.keys()
        for folder in list(self._images.iterdir()) if self._images.is_dir() else ():
            with contextlib.suppress(OSError):
                aged = time.time() - folder.stat().st_mtime > KEPT
                if (aged or folder.name in before) and folder.name not in kept:
                    shutil.rmtree(folder, ignore_errors=True)

    # What is in them.

    def look(self, set_id: str, *, again: bool = False) -> Job | None:
        """Start an audit of a set if its files have changed since the last one."""
        the_set, folder = self.get(set_id), self.folder(set_id)
        if the_set.made_here and not holds_images(Path(the_set.sources[0])):
            return None
        recipe = DataRecipe.of(*the_set.sources, **the_set.options)
        with without_places(the_set.sources[0], the_set.title):
            sources = key_of(recipe)
        key = hashlib.sha256(repr((sources, the_set.words())).encode()).hexdigest()
        with self._guard:
            if not (folder / "set.json").is_file():
                return None  # it was removed meanwhile
            look, (job, rows) = self.looked(set_id), self._look_job(folder)
            if job is not None and not job.over:
                return job
            if look and look.key == key and (folder / "rows.npz").is_file():
                return None
            if job is not None and rows.stem == key and not again:
                return None  # it would fail again
            rows = folder / f"{key}.npz"
            argv = command("data", "--audit", "--no-draw", "--rows", rows)
            return self._jobs.add("look", f"Look at {the_set.title}", [*argv, *the_set.words()])

    def looked(self, set_id: str) -> AuditResult | None:
        """Return the last audit, saving a finished job's first; reads small files only."""
        folder = self.folder(set_id)
        with self._guard:
            job, rows = self._look_job(folder)
            answer = self._jobs.output(job.id, AuditAnswer) if job and job.state == "done" else None
            if answer is not None:
                result = AuditResult(key=rows.stem, when=time.time(), found=answer)
                # Pydantic's own JSON would alter class names that are not valid Unicode.
                write_json(folder / "look.json", result.model_dump())
                rows.replace(folder / "rows.npz")
        with contextlib.suppress(OSError, ValueError):
            content = (folder / "look.json").read_text(encoding="utf-8")
            return AuditResult.model_validate(json.loads(content))
        return None

    def _look_job(self, folder: Path) -> tuple[Job | None, Path]:
        """The unsaved audit job of a set, if any, and its file of rows."""
        for job in self._jobs.jobs():
            if job.kind == "look" and "--rows" in job.argv:
                rows = Path(job.argv[job.argv.index("--rows") + 1])
                if rows.parent == folder:
                    return (None if job.state == "done" and not rows.is_file() else job), rows
        return None, folder

    def _add(self, the_set: LibraryDataset) -> LibraryDataset:
        with self._guard:
            write_json(self._folder / the_set.id / "set.json", asdict(the_set))
            self._known = {**self._known, the_set.id: the_set}
        return the_set

    def _read(self, name: str) -> None:
        """Take in the set of a folder; damaged ones, and what is none, are left out."""
        with contextlib.suppress(OSError, ValueError):
            if re.fullmatch(r"[0-9a-f]{16}", name):
                dataset = replace(_read_set(self._folder / name), id=name)
                source = Path(dataset.sources[0]).absolute()
                own = source.parent == (self._images / name).absolute() and source.name != ".."
                if dataset.made_here and (not own or source.is_symlink()):
                    dataset = replace(dataset, made_here=False)  # files there are not ours
                self._known = {**self._known, name: dataset}

    def _made_here(self, set_id: str) -> Path:
        if not self.get(set_id).made_here:
            raise SourceError(
                "The studio only shows these photos: they belong to their source",
                "Add photos there, or begin a project with your own on the first page.",
            )
        return self.images_path(set_id)

    def in_names(self, text: str) -> str:
        """Replace the paths of sets in a text by their titles."""
        places = {source: dataset.title for dataset in self.all() for source in dataset.sources}
        for source in sorted(filter(os.path.isabs, places), key=len, reverse=True):
            text = text.replace(source, places[source])
        return text


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


@contextlib.contextmanager
def without_places(path: str, name: str) -> Iterator[None]:
    """Replace a source's path by its name in errors."""
    try:
        yield
    except SourceError as error:
        error.replace(path, name)
        raise


def _read_set(folder: Path) -> LibraryDataset:
    content = (folder / "set.json").read_text(encoding="utf-8")
    return _STORED.validate_python(json.loads(content))


def id_of_sources(sources: Sequence[str], options: dict[str, object]) -> str:
    """The id of these sources, which is the same for the same sources."""
    text = json.dumps([list(sources), options], sort_keys=True, default=str)
    return hashlib.blake2s(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
