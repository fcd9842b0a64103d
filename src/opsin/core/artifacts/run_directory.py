"""The run directory: its files, and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import re
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import ValidationError

from opsin.core.artifacts import records
from opsin.core.errors import RunError, StorageError
from opsin.core.files import ConfinedDir, free_name, open_regular
from opsin.core.platform import process_exists
from opsin.core.storage import atomic_file, exclusive, storage_errors, write_bytes
from opsin.core.stored_arrays import read_arrays
from opsin.core.stored_json import first_fault, read_json_lines

A = TypeVar("A", bound=records.Artifact)
L = TypeVar("L", bound=records.Line)

CLASSIFIER: Final = "classifier.onnx"
#: Environment variable that names the run directory a process will create.
RUN_NAME: Final = "OPSIN_RUN_NAME"
# Seconds without a heartbeat after which a process id no longer counts as alive.
_STALE: Final = 1800.0
# Tolerance for rounded probabilities.
_SLACK: Final = 1e-3


def free_run_name(root: Path, name: str, taken: Container[str] = ()) -> str:
    """A name for a new run directory: ``2026-11-21-name``, with a number if taken."""
    day = time.strftime("%Y-%m-%d")
    # Letters of any script stay; characters special to file systems or shells go.
    tame = re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80]
    wish = f"{day}-{tame or 'run'}"
    return free_name(wish, lambda name: name in taken or os.path.lexists(root / name))


class RunDirectory:
    """A directory of plain files with everything about one training."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.json"
        self.status = self.path / "status.json"
        self.dataset = self.path / "dataset.json"
        self.history = self.path / "history.jsonl"
        self.split = self.path / "split.npz"
        self.images = self.path / "pictures.csv"
        self.corrections = self.path / "corrections.csv"
        self.checkpoints = self.path / "checkpoints"
        self.classifier = self.path / CLASSIFIER
        self.predictions = self.path / "predictions.npz"
        self.looks = self.path / "looks.jsonl"
        self.trackers = self.path / records.TrackedRun.FILE
        self.report = self.path / "report.json"
        self.page = self.path / "report.html"
        self.card = self.path / "README.md"
        self.figures = self.path / "figures"
        self.inspection = self.path / "inspection"
        self.notes = self.path / "notes.json"
        self.log = self.path / "log.txt"
        self.imported = self.path / records.ImportRecord.FILE
        self.lock = self.path / ".lock"

    @classmethod
    def create(cls, root: Path, name: str) -> RunDirectory:
        """Make a new directory below ``root``."""
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            while True:
                # The studio names the run of the process that it starts, once.
                path = root / (os.environ.pop(RUN_NAME, "") or free_run_name(root, name))
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    return cls(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Open an existing directory."""
        run = cls(path)
        if not os.path.isfile(run.recipe):  # noqa: PTH113
            there = "is no run directory" if os.path.exists(path) else "does not exist"  # noqa: PTH110
            raise RunError(f"{run.path} {there}", "List the runs: opsin runs")
        run.check_own()
        return run

    def check_own(self) -> None:
        """Check that the directory has only files and folders: links may lead anywhere."""
        folders = [self.path]
        try:
            while folders:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(Path(entry.path))
                        elif not entry.is_file(follow_symlinks=False):
                            raise RunError(
                                f"{entry.path} is a link, a pipe or a device",
                                "If you trust it, put the file itself in its place.",
                            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RunError(f"{self.path} cannot be read: {reason}", "Check its rights.") from error

    def open_to_add(self, file: Path) -> BinaryIO:
        """Open one of the directory's files to add lines to it; no link is followed."""
        with ConfinedDir(self.path) as folder:
            return io.BufferedWriter(cast(io.RawIOBase, folder.open(file.name, "ab")))

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Lock the run, so that no other process trains in it or thinks it dead."""

        def refuse() -> None:
            pid = records.RunStatus.read(self.status).pid
            raise RunError(f"Process {pid} is training {self.path}", "Wait for it.")

        with contextlib.ExitStack() as stack:
            with storage_errors(self.lock):
                stack.enter_context(exclusive(self.lock, refuse))
            yield

    def _held(self) -> bool | None:
        """Whether a process works on the run; ``None`` if unknown."""
        if not self.lock.is_file():
            return None
        try:
            with FileLock(self.lock, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return None

    def set_status(self, state: records.State, **fields: Any) -> None:
        """Write the status, with this process's id and the current time."""
        self._status(state, **fields).write(self.path)

    def show_progress(self, **work: Any) -> None:
        """Write the progress; not synced, since it is written every second."""
        with contextlib.suppress(StorageError):
            if self.path.is_dir():  # one that was removed stays so
                self._status("running", **work).write(self.path, synced=False)

    def _status(self, state: records.State, **fields: object) -> records.RunStatus:
        now = time.time()
        content: dict[str, object] = {"started": now}
        with contextlib.suppress(RunError):  # a damaged one is rewritten
            before = records.RunStatus.read(self.status)
            content = {"started": before.started, "launch": before.launch}
        content |= {"state": state, "pid": os.getpid(), "heartbeat": now, "cause": None}
        return records.RunStatus.model_validate(content | fields)

    def state(self) -> tuple[records.State, str | None]:
        """The state and, for a failure, its cause."""
        if not self.status.is_file():
            return "failed", "the run ended before it began to train"
        status = records.RunStatus.read(self.status)
        if status.state == "running":
            held = self._held()
            if held is None:  # the pid may have been reused
                held = time.time() - status.heartbeat <= _STALE and process_exists(status.pid)
            if not held:
                return "failed", f"its process {status.pid} ended without a message"
        return status.state, status.cause

    def append(self, line: records.Line, *, sync: bool = False) -> None:
        """Add a line to the file of its kind; no link is followed."""
        file = self.path / line.FILE
        with storage_errors(file), self.open_to_add(file) as stream:
            stream.write(f"{line.model_dump_json()}\n".encode())
            if sync:
                stream.flush()
                os.fsync(stream.fileno())

    def lines(self, kind: type[L]) -> list[L]:
        """The lines of a kind's file but for any cut by a crash; no link is followed."""
        file, lines = self.path / kind.FILE, []
        if os.path.lexists(file):
            try:
                with open_regular(file, follow_links=False) as stream:
                    objects = read_json_lines(stream)
            except (OSError, ValueError) as error:
                raise records.damaged(file, error) from error
            for number, line in enumerate(objects, start=1):
                try:
                    lines.append(kind.model_validate(line))
                except ValidationError as error:
                    if not kind.SHARED and number < len(objects):
                        raise records.damaged(file, f"line {number}") from error
        return lines

    def cut_history(self, epochs: int) -> None:
        """Keep only the first epochs."""
        if self.history.is_file():
            lines = self.lines(records.Epoch)[:epochs]
            content = "".join(f"{line.model_dump_json()}\n" for line in lines)
            write_bytes(self.history, content.encode())

    def read(self, kind: type[A]) -> A:
        """Read one of the directory's JSON files."""
        file = self.path / kind.FILE
        if not file.is_file():
            advice = "Train again."
            if self.imported.is_file():
                advice = "Import it again, with images: opsin import FILE --data SOURCE."
            raise RunError(f"{self.path} has no {file.name} ({self.state()[0]})", advice)
        return kind.read(file)

    def location(self) -> records.Location:
        """Where the run's images came from."""
        location = self.read(records.DatasetRecord).location
        if self.corrections.is_file():
            location = location.model_copy(update={"labels": str(self.corrections)})
        return location

    def read_notes(self) -> records.RunNotes:
        """The name and the note that people gave the run."""
        return records.RunNotes.read(self.notes) if self.notes.is_file() else records.RunNotes()

    def write_notes(
        self, *, name: str | None = None, note: str | None = None, number: int | None = None
    ) -> None:
        """Store a name, a note or a number; the directory is not renamed."""
        given = {"name": name and name.strip(), "note": note and note.strip(), "number": number}
        changed = {field: value for field, value in given.items() if value is not None}
        try:
            notes = records.RunNotes.model_validate(
                self.read_notes().model_dump(exclude_unset=True) | changed
            )
        except ValidationError as error:
            raise RunError(f"The {': '.join(first_fault(error))}") from None
        notes.write(self.path)

    def tracked_as(self, tracker: str) -> str | None:
        """A tracker's latest id of the run."""
        names = [line.id for line in self.lines(records.TrackedRun) if line.tracker == tracker]
        return names[-1] if names else None

    def save_arrays(self, file: Path, **arrays: NDArray[Any]) -> None:
        """Write arrays into one of the directory's ``.npz`` files."""
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    def load_arrays(self, file: Path) -> dict[str, NDArray[Any]]:
        """Read what `save_arrays` wrote; a missing array raises `RunError`, too."""
        if not file.is_file():
            raise RunError(f"{self.path} has no {file.name} ({self.state()[0]})", "Train again.")
        try:
            arrays = _Arrays(read_arrays(file, follow_links=False))
            if file == self.split:
                _check_split(arrays)
            if file == self.predictions:
                _check_predictions(arrays)
        except (OSError, ValueError) as error:
            raise records.damaged(file, error) from error
        arrays.file = file
        return arrays


def find_classifier(model: str | os.PathLike[str]) -> Path:
    """The ``classifier.onnx`` of MODEL: a file, or a run directory."""
    path = Path(model)
    if os.path.isfile(path):  # noqa: PTH113  does not raise for impossible names
        return path
    run = RunDirectory.open(path)
    if not run.classifier.is_file():
        state, cause = run.state()
        reason = f"{state}: {cause}" if cause else state
        raise RunError(f"{path} has no {CLASSIFIER} ({reason})", "Wait for it, or train again.")
    return run.classifier


def find_runs(root: Path) -> list[RunDirectory]:
    """The run directories below ``root``, the newest first."""
    runs = []
    for path in root.iterdir() if root.is_dir() else ():
        with contextlib.suppress(OSError):  # no recipe, or permission denied
            runs.append(((path / "recipe.json").lstat().st_mtime, path))
    return [RunDirectory(path) for _, path in sorted(runs, reverse=True)]


class _Arrays(dict[str, NDArray[Any]]):
    file = Path()

    def __missing__(self, name: str) -> NDArray[Any]:
        raise RunError(f"{self.file} has no {name}", "Train again.")


def _check_split(arrays: dict[str, NDArray[Any]]) -> None:
    count = None
    for name in arrays.keys() & {"digests", "source_digests"}:
        digests = arrays[name]
        if digests.dtype != np.uint8 or digests.ndim != 2 or count not in (None, len(digests)):
            raise ValueError(f"{name} are none, or of other images")
        count = len(digests)
    for part in ("train", "val", "test"):
        _check_numbers(arrays, part, count)


def _check_predictions(arrays: dict[str, NDArray[Any]]) -> None:
    for part in ("val", "test", "out_of_fold"):
        names = [f"{part}_{what}" for what in ("rows", "labels", "probabilities")]
        if len({len(arrays[name]) for name in names if name in arrays and arrays[name].ndim}) > 1:
            raise ValueError(f"lengths of {part} differ")
        answers, classes = arrays.get(names[2]), None
        if answers is not None:
            if answers.dtype.kind != "f" or answers.ndim != 2:
                raise ValueError(f"{part}_probabilities are none")
            if not ((answers >= -_SLACK) & (answers <= 1 + _SLACK)).all():
                raise ValueError(f"{part}_probabilities are not from 0 to 1")
            classes = answers.shape[1]
        _check_numbers(arrays, names[0], None)
        _check_numbers(arrays, names[1], classes)


def _check_numbers(arrays: dict[str, NDArray[Any]], name: str, count: int | None) -> None:
    if (array := arrays.get(name)) is not None:
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise ValueError(f"{name} are no whole numbers")
        if len(array) and (array.min() < 0 or array.max() >= (1 << 62 if count is None else count)):
            raise ValueError(f"{name} lead outside")
