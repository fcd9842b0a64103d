"""TensorBoard: a file of events in the run directory, without TensorFlow or PyTorch."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opsin.core.artifacts.records import State
from opsin.core.stored_json import Json
from opsin.trackers import Tracker


class TensorBoardTracker(Tracker):
    """Writes ``events.out.tfevents.…``, each record at once: a killed run stays readable."""

    name = "tensorboard"
    title = "TensorBoard"
    package = "tensorboard"
    advice = "see that the run directory can be written"

    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:  # noqa: ARG002
        """Open a new file beside those of earlier starts, and show the options once."""
        from tensorboard.compat.proto import event_pb2, summary_pb2  # noqa: PLC0415
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # noqa: PLC0415
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

        self._proto, self._summary = event_pb2, summary_pb2.Summary
        first = not any(run.glob("events.out.tfevents.*"))
        # Sorted by name is sorted by time. The usual name would tell the machine's.
        file = run / f"events.out.tfevents.{time.time_ns():020d}"
        self._records = RecordWriter(file.open("xb"))
        self._logged: int | None = None
        self._write(0, file_version="brain.Event:2")
        here, runs = Path.cwd(), run.parent
        runs = runs.relative_to(here) if runs.is_relative_to(here) else runs
        self.address = f"tensorboard --logdir {shlex.quote(str(runs))}"
        if first:
            plain = {
                key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
                for key, value in options.items()
            }
            self._write(0, summary=hparams_pb(plain, trial_id=run.name))

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Add a point to each curve, in place of those of epochs that are trained again."""
        if self._logged is None or epoch <= self._logged:
            log = self._proto.SessionLog
            self._write(epoch, session_log=log(status=log.START))
        self._logged = epoch
        self.results(epoch, figures)

    def results(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Add points at the last epoch, in place of none."""
        epoch = max(epoch, self._logged or 0)
        value = self._summary.Value
        values = [value(tag=tag, simple_value=figure) for tag, figure in figures.items()]
        self._write(epoch, summary=self._summary(value=values))

    def end(self, state: State, cause: str | None) -> None:  # noqa: ARG002
        """Close the file."""
        self._records.close()

    def _write(self, step: int, **content: Any) -> None:
        event = self._proto.Event(wall_time=time.time(), step=step, **content)
        self._records.write(event.SerializeToString())
        self._records.flush()


TRACKER = TensorBoardTracker
