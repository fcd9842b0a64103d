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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import OpsinError
from opsin.core.file_stamp import FileStamp, file_stamp
from opsin.core.storage import write_json
from opsin.studio.jobs.job import Job, command
from opsin.studio.jobs.queue import Queue

#: How many images corrections have moved, beside their table.
MOVED: Final = "moved.json"


@dataclass(frozen=True)
class AuditResult:
    """What the last check found.

    Args:
        key: Says of which state of the files; it changes with them.
        when: In seconds since 1970.
        found: The object that ``opsin data --audit --json`` prints.
    """

    key: str
    when: float
    found: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Images of each class."""
        return {name: sum(parts.values()) for name, parts in self.found["counts"].items()}

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Kinds of findings, the worst first: ``kind``, ``count``, ``title``, ``cases`` …."""
        return list(self.found.get("findings", ()))


@dataclass(frozen=True)
class Glance:
    """What a set's panel tells.

    Args:
        counts: Images of each class, as far as that is known; ``None`` where it is not.
        look: The last look, perhaps at files that have changed since.
        job: The job that looks, or has failed to.
    """

    counts: dict[str, int] | None
    look: AuditResult | None
    job: Job | None


class AuditResults:
    """Looks at sets: asked of the queue, and kept until their files change.

    Args:
        jobs: The queue.
    """

    def __init__(self, jobs: Queue) -> None:
        self._jobs = jobs
        #: Held while a set's files are written or moved.
        self.guard = threading.RLock()
        self._read = Small()

    def ask(
        self, folder: Path, key: str, title: str, words: Sequence[str], *, again: bool = False
    ) -> Job | None:
        """Ask for a look, unless there is one of this state of the files.

        Args:
            folder: Of the set.
            key: The state of its files.
            title: What the job is called.
            words: What says on the command line which images are meant.
            again: Also where the last attempt failed.

        Returns:
            The job that looks; ``None`` where there is nothing new to see.

        Raises:
            StorageError: The disk refuses the write.
        """
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
            write_json(folder / "looking.json", {"job": job.id, "key": key})
            return job

    def last(self, folder: Path) -> AuditResult | None:
        """Return the last look, keeping what a job has found meanwhile."""
        with self.guard:
            pending = self._pending(folder)
            if pending and pending[0].state == "done":
                self._keep(folder, *pending)
        try:
            kept = self._read.json(folder / "look.json")
            look = AuditResult(str(kept["key"]), float(kept["when"]), dict(kept["found"]))
            sum(look.counts.values())  # raises where the file is not what it was
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return look

    def job(self, folder: Path) -> Job | None:
        """Return the job that looks, or has failed to."""
        pending = self._pending(folder)
        return pending[0] if pending else None

    def _pending(self, folder: Path) -> tuple[Job, str] | None:
        """Return the job that was asked last, and of which state of the files."""
        try:
            asked = self._read.json(folder / "looking.json")
            return self._jobs.get(asked["job"]), str(asked["key"])
        except (OSError, ValueError, TypeError, KeyError, OpsinError):
            return None

    def _keep(self, folder: Path, job: Job, key: str) -> None:
        found = self._jobs.output(job.id)
        if found is not None and "counts" in found:
            with contextlib.suppress(FileNotFoundError):
                (folder / "looking.npz").replace(folder / "rows.npz")
            write_json(folder / "look.json", {"key": key, "when": time.time(), "found": found})
            (folder / "looking.json").unlink(missing_ok=True)


def read_moved(folder: Path) -> dict[str, int]:
    """Return how many images each class of a set has more by its corrections, or fewer.

    Nothing is known of a table that has changed since its dataset was last opened.
    """
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        stamp = file_stamp(folder / "corrections.csv")
        kept = json.loads((folder / MOVED).read_text(encoding="utf-8"))
        if kept["table"] == [stamp.mtime_ns, stamp.size]:
            return {str(name): int(number) for name, number in kept["moved"].items()}
    return {}


class Small:
    """Small files of JSON, parsed again where they have changed: pages ask for them often."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[FileStamp, Any]] = {}

    def json(self, path: Path) -> Any:
        """Return a file's content; not to be changed.

        Raises:
            OSError: It is not there.
            ValueError: It is no JSON.
        """
        stamp = file_stamp(path)
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            content = json.loads(path.read_text(encoding="utf-8"))
            known = self._known[path] = (stamp, content)
        return known[1]
