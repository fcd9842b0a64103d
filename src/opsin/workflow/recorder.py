"""A run's status, history and log, kept while it goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from opsin.errors import OpsinError
from opsin.events import Epoch, Watcher
from opsin.report.terminal import Both, LogFile
from opsin.run import RunDirectory
from opsin.storage import told_plainly

#: Seconds between two signs of life in ``status.json``.
_HEARTBEAT: Final = 5.0


class Recorder(Both):
    """Passes everything on, and keeps history and heartbeat of the run.

    Args:
        directory: The run.
        watchers: Whom to pass on to.
    """

    def __init__(self, directory: RunDirectory, *watchers: Watcher) -> None:
        super().__init__(*watchers)
        self.directory = directory
        #: Set when Ctrl-C has ended the training early.
        self.stopped = False
        self._beat = time.monotonic()

    def advance(self, done: int, **figures: float) -> None:
        """Pass on, and from time to time write a sign of life."""
        if time.monotonic() - self._beat > _HEARTBEAT:
            self._beat = time.monotonic()
            self.directory.set_status("running")
        super().advance(done, **figures)

    def epoch(self, epoch: Epoch) -> None:
        """Keep an epoch in the history, and pass on."""
        self.directory.append_history(epoch.model_dump_json())
        super().epoch(epoch)


@contextlib.contextmanager
def recorded(directory: RunDirectory, watcher: Watcher) -> Iterator[Recorder]:
    """Keep ``status.json`` and ``log.txt`` true, however the block ends."""
    directory.set_status("running")
    with (
        told_plainly(directory.log),
        directory.log.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        recorder = Recorder(directory, watcher, LogFile(file))
        try:
            yield recorder
        except BaseException as error:
            recorder.end()
            cause = str(error) if isinstance(error, OpsinError) else repr(error)
            # On a full disk this fails as well; then the first error is the one to tell.
            with contextlib.suppress(OpsinError, OSError):
                stopped = isinstance(error, KeyboardInterrupt)
                directory.set_status("stopped" if stopped else "failed", cause=cause)
                file.write(f"{cause}\n")
            raise
        directory.set_status("stopped" if recorder.stopped else "done")
