"""The run directory: its files, and nothing else."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import re
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import ValidationError

from opsin.core.artifacts.records import (
    NAME_MOST,
    NOTE_MOST,
    Artifact,
    DatasetRecord,
    Epoch,
    EpochConfusion,
    ImportRecord,
    Line,
    Location,
    RunNotes,
    RunStatus,
    State,
    TrackedRun,
    damaged,
    first_of,
    read_objects,
)
from opsin.core.errors import RecipeError, RunError
from opsin.core.files import ConfinedDir, open_regular
from opsin.core.platform import process_exists
from opsin.core.storage import atomic_file, storage_errors, write_bytes
from opsin.core.stored_arrays import StoredArrays
from opsin.core.stored_json import MOST

A = TypeVar("A", bound=Artifact)
L = TypeVar("L", bound=Line)

CLASSIFIER: Final = "classifier.onnx"
#: Environment variable with the name of the run directory that a process is to make.
RUN_NAME: Final = "OPSIN_RUN_NAME"
# Seconds without a sign of life after which no process number proves that a run goes on.
_STALE: Final = 1800.0
# Probabilities are rounded.
_SLACK: Final = 1e-3


def free_name(root: Path, name: str, taken: Container[str] = ()) -> str:
    """A name for a new run directory below ``root``: ``2026-11-21-name``, a number if taken."""
    day = dt.datetime.now(tz=dt.UTC).astimezone().date().isoformat()
    # Letters of any script stay; what a file system or a shell could trip over does not.
    tame = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80]
    stem = free = f"{day}-{tame or 'run'}"
    number = 1
    while free in taken or os.path.lexists(root / free):
        number += 1
        free = f"{stem}-{number}"
    return free


class RunDirectory:
    """One directory of plain files that is the whole truth about one training."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.json"
        self.status = self.path / "status.json"
        self.dataset = self.path / "dataset.json"
        self.history = self.path / "history.jsonl"
        self.confusions = self.path / "confusions.jsonl"
        self.split = self.path / "split.npz"
        self.images = self.path / "pictures.csv"
        self.corrections = self.path / "corrections.csv"
        self.checkpoints = self.path / "checkpoints"
        self.classifier = self.path / CLASSIFIER
        self.predictions = self.path / "predictions.npz"
        self.looks = self.path / "looks.jsonl"
        self.trackers = self.path / TrackedRun.FILE
        self.report = self.path / "report.json"
        self.page = self.path / "report.html"
        self.card = self.path / "README.md"
        self.figures = self.path / "figures"
        self.inspection = self.path / "inspection"
        self.notes = self.path / "notes.json"
        self.log = self.path / "log.txt"
        self.imported = self.path / ImportRecord.FILE
        self.lock = self.path / ".lock"

    @classmethod
    def create(cls, root: Path, name: str) -> RunDirectory:
        """Make a new directory below ``root``: ``2026-11-21-name``, with a number if taken."""
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            while True:
                # A process that the studio started is told the name once.
                path = root / (os.environ.pop(RUN_NAME, "") or free_name(root, name))
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    return cls(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Open an existing directory."""
        run = cls(path)
        if not os.path.isfile(run.recipe):  # noqa: PTH113
            there = "is no run directory" if os.path.exists(path) else "does not exist"  # noqa: PTH110
            raise RunError(
                "a run directory", f"{run.path} {there}", "See the runs there are: opsin runs"
            )
        run.check_own()
        return run

    def check_own(self) -> None:
        """See that all of the directory is its own: a stranger's may hold links to anywhere."""
        folders = [self.path]
        try:
            while folders:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(Path(entry.path))
                        elif not entry.is_file(follow_symlinks=False):
                            raise RunError(
                                "plain files and folders in a run directory",
                                f"{entry.path} is a link, a pipe or a device",
                                "If you trust it, put the file itself in its place.",
                            )
        except OSError as error:
            raise RunError(
                "a run directory that can be read",
                f"{self.path} cannot ({(error.strerror or str(error)).lower()})",
                "Check its rights.",
            ) from error

    def open_to_add(self, file: Path) -> BinaryIO:
        """Open one of the directory's files to add lines to it; no link is followed."""
        with ConfinedDir(self.path) as own:
            return io.BufferedWriter(cast(io.RawIOBase, own.open(file.name, "ab")))

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the run to this process, so that no other trains in it or takes it for dead."""
        lock = FileLock(self.lock)
        with storage_errors(self.lock):
            try:
                # Someone who only asks for the state holds it for a moment.
                lock.acquire(timeout=2)
            except Timeout:  # inside: it is an OSError as well, and no refusal of the disk's
                raise RunError(
                    "a run that no other process works on",
                    f"{self.path} is being trained by process {RunStatus.read(self.status).pid}",
                    "Wait until it is done, or stop it.",
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _held(self) -> bool | None:
        """Tell whether a process works on the run; ``None`` where that cannot be known."""
        if not self.lock.is_file():
            return None
        try:
            with FileLock(self.lock, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return None

    def set_status(self, state: State, **fields: Any) -> None:
        """Record what the run is doing, with this process and the present time."""
        self._status(state, **fields).write(self.path)

    def show_progress(self, **work: Any) -> None:
        """Say in ``status.json`` how far a work is; not synced, as it comes every second."""
        waiting = self.path / ".status.json.next"
        with contextlib.suppress(OSError):
            waiting.unlink(missing_ok=True)
            with waiting.open("x", encoding="utf-8") as file:  # follows no link
                file.write(json.dumps(self._status("running", **work).to_json()))
            waiting.replace(self.status)

    def _status(self, state: State, **fields: object) -> RunStatus:
        now = time.time()
        kept: dict[str, object] = {"started": now}
        with contextlib.suppress(RunError):  # a damaged one is written anew
            before = RunStatus.read(self.status)
            kept = {"started": before.started, "launch": before.launch}
        about = {"state": state, "pid": os.getpid(), "heartbeat": now}
        return RunStatus.model_validate({**kept, **about, "cause": None, **fields})

    def state(self) -> tuple[State, str | None]:
        """Return the state and, for a failure, its cause."""
        if not self.status.is_file():
            return "failed", "the run ended before it began to train"
        status = RunStatus.read(self.status)
        if status.state == "running":
            held = self._held()
            if held is None:  # the number may by now be another process's
                held = time.time() - status.heartbeat <= _STALE and process_exists(status.pid)
            if not held:
                return "failed", f"its process {status.pid} ended without a message"
        return status.state, status.cause

    def append(self, line: Line, *, sync: bool = False) -> None:
        """Add a line to the file of its kind; no link is followed."""
        file = self.path / line.FILE
        with storage_errors(file), self.open_to_add(file) as stream:
            stream.write(f"{line.model_dump_json()}\n".encode())
            if sync:
                stream.flush()
                os.fsync(stream.fileno())

    def lines(self, kind: type[L]) -> list[L]:
        """Return the lines of a kind's file that are of that kind, and whole."""
        found = []
        for line in read_objects(self.path / kind.FILE, skip=True):
            with contextlib.suppress(ValidationError):
                found.append(kind.model_validate(line))
        return found

    def cut_history(self, events: int) -> None:
        """Keep only the first lines of ``history.jsonl``, and their confusion matrices."""
        if self.history.is_file():
            with (
                storage_errors(self.history),
                open_regular(self.history, follow_links=False) as file,
            ):
                lines = file.read(MOST).splitlines(keepends=True)
            if len(lines) > events:
                write_bytes(self.history, b"".join(lines[:events]))
        if self.confusions.is_file():
            # By the epochs' numbers: the last line may have no event yet, or be half of a line.
            kept = {epoch.epoch for epoch in self.read_history()}
            matrices = [each for each in self.lines(EpochConfusion) if each.epoch in kept]
            text = "".join(each.model_dump_json() + "\n" for each in matrices)
            write_bytes(self.confusions, text.encode())

    def read_history(self) -> list[Epoch]:
        """Return the epochs so far; a last line cut short by a crash is left out."""
        try:
            return [Epoch.model_validate(line) for line in read_objects(self.history)]
        except ValidationError as error:
            raise damaged(self.history, first_of(error)) from error

    def read(self, kind: type[A]) -> A:
        """Read one of the directory's JSON files."""
        file = self.path / kind.FILE
        if not file.is_file():
            advice = "Train again: opsin train …"
            if self.imported.is_file():
                advice = "Import it again, with images: opsin import FILE --data SOURCE."
            raise RunError(
                f"{file.name} in a finished run",
                f"{self.path} has none ({self.state()[0]})",
                advice,
            )
        return kind.read(file)

    def location(self) -> Location:
        """Return where the run's images came from."""
        location = self.read(DatasetRecord).location
        if self.corrections.is_file():
            location = location.model_copy(update={"labels": str(self.corrections)})
        return location

    def read_notes(self) -> RunNotes:
        """Return the name and the note that people gave the run; empty where they gave none."""
        return RunNotes.read(self.notes) if self.notes.is_file() else RunNotes()

    def write_notes(self, *, name: str | None = None, note: str | None = None) -> None:
        """Keep a name, a note or both; the directory keeps its own name."""
        given = {"name": name, "note": note}
        for (what, text), most in zip(given.items(), (NAME_MOST, NOTE_MOST), strict=True):
            if text is not None and len(text) > most:
                raise RunError(
                    f"a {what} of at most {most:,} characters", f"got {len(text):,}", "Shorten it."
                )
        changed = {what: text.strip() for what, text in given.items() if text is not None}
        self.read_notes().model_copy(update=changed).write(self.path)

    def tracked_as(self, tracker: str) -> str | None:
        """Return what a tracker called the run last, if it did."""
        names = [line.id for line in self.lines(TrackedRun) if line.tracker == tracker]
        return names[-1] if names else None

    def save_arrays(self, file: Path, **arrays: NDArray[Any]) -> None:
        """Write arrays into one of the directory's ``.npz`` files."""
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    def load_arrays(self, file: Path) -> dict[str, NDArray[Any]]:
        """Read what `save_arrays` wrote; an array that is not there is a `RunError` too."""
        try:
            with StoredArrays(file, follow_links=False) as stored:
                arrays = {name: stored.read(name) for name in stored.names}
        except (OSError, ValueError) as error:
            raise RunError(
                f"{file.name} in a finished run", f"{file} cannot be read", "Train again."
            ) from error
        check = {self.split: _check_split, self.predictions: _check_predictions}.get(file)
        try:
            if check is not None:
                check(arrays)
        except ValueError as error:
            raise RunError(
                f"a whole {file.name}",
                f"{file} lacks some of its parts, or has others ({error})",
                "Train again.",
            ) from error
        return _Arrays(file, arrays)


def find_classifier(model: str | os.PathLike[str]) -> Path:
    """Return the ``classifier.onnx`` that MODEL means: the file itself, or a run directory."""
    path = Path(model)
    if os.path.isfile(path):  # noqa: PTH113  answers for impossible names instead of raising
        return path
    run = RunDirectory.open(path)
    if not run.classifier.is_file():
        state, cause = run.state()
        raise RunError(
            f"a finished run with its {CLASSIFIER}",
            f"{path} has none ({state}{f': {cause}' if cause else ''})",
            "Wait until it is done, or train again.",
        )
    return run.classifier


def refuse_swapped(model: object, others: Iterable[object], line: str) -> None:
    """Refuse a classifier that was given where the images belong, and the other way round."""
    if not isinstance(model, str | os.PathLike) or _is_classifier(model):
        return
    for other in others:
        if isinstance(other, str | os.PathLike) and _is_classifier(other):
            found, images = os.fspath(other), os.fspath(model)
            raise RecipeError(
                "the classifier first, then the images",
                f"{found} is the classifier, {images} the images",
                f"Swap them: {line.format(model=found, images=images)}",
            )


def _is_classifier(path: str | os.PathLike[str]) -> bool:
    """Tell a run directory or a classifier by its name, without a look inside."""
    # os.path answers "no" for impossible names instead of raising.
    named = os.fspath(path).endswith(".onnx") and os.path.isfile(path)  # noqa: PTH113
    return named or os.path.isfile(os.path.join(path, "recipe.json"))  # noqa: PTH113, PTH118


def find_runs(root: Path) -> list[RunDirectory]:
    """Return the run directories below ``root``, the newest first."""
    runs = []
    for path in root.iterdir() if root.is_dir() else ():
        with contextlib.suppress(OSError):  # no recipe, or a directory that may not be entered
            runs.append(((path / "recipe.json").lstat().st_mtime, path))
    return [RunDirectory(path) for _, path in sorted(runs, reverse=True)]


class _Arrays(dict[str, NDArray[Any]]):
    """Arrays of a run's file by their names; one that is not there is a `RunError`."""

    def __init__(self, file: Path, arrays: dict[str, NDArray[Any]]) -> None:
        super().__init__(arrays)
        self._file = file

    def __missing__(self, name: str) -> NDArray[Any]:
        raise _MissingArrayError(f"{name} in {self._file}", "the file lacks it", "Train again.")


class _MissingArrayError(RunError, KeyError):
    """A `RunError`; who knows better what a missing array means catches the key."""


def _check_split(arrays: dict[str, NDArray[Any]]) -> None:
    """See that the parts are rows of the run's images."""
    count = None
    for name in ("digests", "source_digests"):
        if (digests := arrays.get(name)) is not None:
            if digests.dtype != np.uint8 or digests.ndim != 2:
                raise ValueError(f"{name} are none")
            if count not in (None, len(digests)):
                raise ValueError(f"{name} are not as many as the images")
            count = len(digests)
    for part in ("train", "val", "test"):
        if part in arrays:
            _check_numbers(arrays[part], part, count)


def _check_predictions(arrays: dict[str, NDArray[Any]]) -> None:
    """See that each part has a row, a label and probabilities for each of its images."""
    for part in ("val", "test", "out_of_fold"):
        rows, labels, answers = (
            arrays.get(f"{part}_{what}") for what in ("rows", "labels", "probabilities")
        )
        lengths = {len(each) for each in (rows, labels, answers) if each is not None and each.ndim}
        if len(lengths) > 1:
            raise ValueError(f"lengths of {part} differ")
        if rows is not None:
            _check_numbers(rows, f"{part}_rows", None)
        classes = None
        if answers is not None:
            if answers.dtype.kind != "f" or answers.ndim != 2:
                raise ValueError(f"{part}_probabilities are none")
            if not ((answers >= -_SLACK) & (answers <= 1 + _SLACK)).all():
                raise ValueError(f"{part}_probabilities are not from 0 to 1")
            classes = answers.shape[1]
        if labels is not None:
            _check_numbers(labels, f"{part}_labels", classes)


def _check_numbers(array: NDArray[Any], name: str, count: int | None) -> None:
    """See that an array is a list of places, below ``count`` where that is known."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ValueError(f"{name} are no whole numbers")
    if len(array) and (array.min() < 0 or array.max() >= (1 << 62 if count is None else count)):
        raise ValueError(f"{name} lead outside")
