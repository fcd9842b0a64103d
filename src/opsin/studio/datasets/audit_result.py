"""What a look at a set found, kept.

look.json       what `opsin data --audit` found, when, and of which state of the files
rows.npz        rows of each part and each finding
looking.json    the job that looks, until its answer is kept;  looking.npz: its rows
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from pydantic import BaseModel

from opsin.core.errors import OpsinError
from opsin.core.files import FileStamp, file_stamp
from opsin.core.storage import write_json
from opsin.data.audit import Finding
from opsin.studio.jobs.job import Job, command
from opsin.studio.jobs.queue import Queue

T = TypeVar("T")

#: How many images corrections have moved, beside their table.
MOVED: Final = "moved.json"


class AuditAnswer(BaseModel):
    """What ``opsin data --audit --json`` says, as far as it is shown."""

    images: int
    counts: dict[str, dict[str, int]]
    findings: tuple[Finding, ...] = ()


class AuditResult(BaseModel):
    """What the last check found: ``look.json``."""

    key: str
    when: float
    found: AuditAnswer

    @property
    def counts(self) -> dict[str, int]:
        """Images of each class."""
        return {name: sum(parts.values()) for name, parts in self.found.counts.items()}


class _PendingAudit(BaseModel):
    """The job that looks, and at which state of the files: ``looking.json``."""

    job: str
    key: str


@dataclass(frozen=True)
class DatasetSummary:
    """What a set's panel tells."""

    counts: dict[str, int] | None
    look: AuditResult | None
    job: Job | None


class AuditResults:
    """Looks at sets: asked of the queue, and kept until their files change."""

    def __init__(self, jobs: Queue) -> None:
        self._jobs = jobs
        #: Held while a set's files are written or moved.
        self.guard = threading.RLock()
        self._results = SmallFiles(AuditResult.model_validate)
        self._asked = SmallFiles(_PendingAudit.model_validate)

    def ask(
        self, folder: Path, key: str, title: str, words: Sequence[str], *, again: bool = False
    ) -> Job | None:
        """Ask for a look, unless there is one of this state of the files."""
        with self.guard:
            if not (folder / "set.json").is_file():
                return None  # it was removed meanwhile
            look, pending = self.last(folder), self._pending(folder)
            if pending and not pending[0].over:
                return pending[0]
            if look and look.key == key and (folder / "rows.npz").is_file():
                return None
            if pending and pending[1] == key and not again:
                return None  # it would fail again
            argv = command("data", "--audit", "--no-draw", "--rows", folder / "looking.npz")
            job = self._jobs.add("look", title, [*argv, *words])
            write_json(folder / "looking.json", _PendingAudit(job=job.id, key=key).model_dump())
            return job

    def last(self, folder: Path) -> AuditResult | None:
        """Return the last look, keeping what a job has found meanwhile."""
        with self.guard:
            pending = self._pending(folder)
            if pending and pending[0].state == "done":
                self._keep(folder, *pending)
        try:
            return self._results.read(folder / "look.json")
        except (OSError, ValueError):
            return None

    def job(self, folder: Path) -> Job | None:
        """Return the job that looks, or has failed to."""
        pending = self._pending(folder)
        return pending[0] if pending else None

    def _pending(self, folder: Path) -> tuple[Job, str] | None:
        try:
            asked = self._asked.read(folder / "looking.json")
            return self._jobs.get(asked.job), asked.key
        except (OSError, ValueError, OpsinError):
            return None

    def _keep(self, folder: Path, job: Job, key: str) -> None:
        found = self._jobs.output(job.id, AuditAnswer)
        if found is not None:
            with contextlib.suppress(FileNotFoundError):
                (folder / "looking.npz").replace(folder / "rows.npz")
            result = AuditResult(key=key, when=time.time(), found=found)
            # As JSON, pydantic would change names of classes that are no Unicode.
            write_json(folder / "look.json", result.model_dump())
            (folder / "looking.json").unlink(missing_ok=True)


def read_moved(folder: Path) -> dict[str, int]:
    """Return how many images each class of a set has more by its corrections, or fewer."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        stamp = file_stamp(folder / "corrections.csv")
        kept = json.loads((folder / MOVED).read_text(encoding="utf-8"))
        if kept["table"] == [stamp.mtime_ns, stamp.size]:
            return {str(name): int(number) for name, number in kept["moved"].items()}
    return {}


class SmallFiles(Generic[T]):
    """Small files of JSON, parsed again where they have changed: pages ask for them often."""

    def __init__(self, parse: Callable[[object], T]) -> None:
        self._parse = parse
        self._known: dict[Path, tuple[FileStamp, T]] = {}

    def read(self, path: Path) -> T:
        """Return what a file holds; not to be changed."""
        stamp = file_stamp(path)
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            content = self._parse(json.loads(path.read_text(encoding="utf-8")))
            known = self._known[path] = (stamp, content)
        return known[1]
