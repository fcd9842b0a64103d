"""TensorBoard: a file of events in the run directory.

Records are written by `tensorboard.summary.writer`; neither TensorFlow nor PyTorch is needed.
"""

from __future__ import annotations

import json
import shlex
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opsin.core.artifacts.run_report import Report
from opsin.core.artifacts.run_status import State
from opsin.core.stored_json import Json
from opsin.trackers.tracker import Tracker, TrackerKind


class TensorBoardTracker(Tracker):
    """Writes ``events.out.tfevents.…`` into the run directory, of whose name TensorBoard makes its.

    Each record is on its way to the disk before the next one comes: what a killed run has shown
    stays readable.
    """

    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:  # noqa: ARG002
        """Open a new file beside those of earlier starts."""
        from tensorboard.compat.proto import event_pb2, summary_pb2  # noqa: PLC0415
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        goes_on = any(run.glob("events.out.tfevents.*"))
        # Sorted by name is sorted by time. The usual name would tell the machine's.
        file = (run / f"events.out.tfevents.{time.time_ns():020d}").open("xb")
        self._records = RecordWriter(file)
        self._step = 0
        self._write(file_version="brain.Event:2")
        here, runs = Path.cwd(), run.parent
        runs = runs.relative_to(here) if runs.is_relative_to(here) else runs
        self.address = f"tensorboard --logdir {shlex.quote(str(runs))}"
        if not goes_on:
            self._show_options(run.name, options)

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._step = number
        self._scalars(figures)

    def rewind(self, epochs: int) -> None:
        """Let the points of later epochs go."""
        self._step = epochs + 1
        self._write(session_log=self._start)
        self._step = epochs

    def results(self, report: Report, figures: Mapping[str, float]) -> None:
        """Add a point for each figure."""
        self._step = max(self._step, report.training.epochs)
        self._scalars(figures)

    def picture(self, name: str, file: Path) -> None:
        """Show it as it is."""
        content = file.read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # of the PNG's first chunk
        image = self._summary.Image(
            encoded_image_string=content, width=width, height=height, colorspace=3
        )
        self._values(self._summary.Value(tag=name, image=image))

    def end(self, state: State, cause: str | None) -> None:
        """Say how it ended; a run that was stopped may go on."""
        from tensorboard.plugins.hparams import api_pb2  # noqa: PLC0415
        from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG  # noqa: PLC0415
        from tensorboard.plugins.hparams.plugin_data_pb2 import (  # noqa: PLC0415
            HParamsPluginData,
            SessionEndInfo,
        )

        self._text("state", f"{state}: {cause}" if cause else state)
        if state != "stopped":
            status = api_pb2.STATUS_SUCCESS if state == "done" else api_pb2.STATUS_FAILURE
            ended = SessionEndInfo(status=status, end_time_secs=time.time())
            self._hparams(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=ended))
        self._records.close()

    def _show_options(self, name: str, options: Mapping[str, Json]) -> None:
        """Make a row of TensorBoard's table of hyperparameters."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb  # noqa: PLC0415

        plain = {
            key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
            for key, value in options.items()
        }
        summary = hparams_pb(plain, trial_id=name, start_time_secs=time.time())
        self._write(summary=summary)

    def _hparams(self, tag: str, content: Any) -> None:
        from tensorboard.plugins.hparams.metadata import create_summary_metadata  # noqa: PLC0415

        self._values(self._summary.Value(tag=tag, metadata=create_summary_metadata(content)))

    def _text(self, tag: str, text: str) -> None:
        from tensorboard.compat.proto import tensor_pb2, types_pb2  # noqa: PLC0415
        from tensorboard.plugins.text.metadata import create_summary_metadata  # noqa: PLC0415

        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[text.encode()])
        metadata = create_summary_metadata(display_name=tag, description="")
        self._values(self._summary.Value(tag=tag, tensor=tensor, metadata=metadata))

    def _scalars(self, figures: Mapping[str, float]) -> None:
        value = self._summary.Value
        self._values(*(value(tag=tag, simple_value=figure) for tag, figure in figures.items()))

    def _values(self, *values: Any) -> None:
        self._write(summary=self._summary(value=values))

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), step=self._step, **content)
        self._records.write(event.SerializeToString())
        self._records.flush()


KIND = TrackerKind(
    name="tensorboard",
    title="TensorBoard",
    open=TensorBoardTracker,
    package="tensorboard",
    advice="see that the run directory can be written",
)
