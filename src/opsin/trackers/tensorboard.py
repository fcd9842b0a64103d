"""TensorBoard: a file of events in the run directory, without TensorFlow or PyTorch."""

from __future__ import annotations

import json
import shlex
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opsin.core.artifacts.records import State
from opsin.core.artifacts.run_report import Report
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
        goes_on = any(run.glob("events.out.tfevents.*"))
        # Sorted by name is sorted by time. The usual name would tell the machine's.
        self._records = RecordWriter(
            (run / f"events.out.tfevents.{time.time_ns():020d}").open("xb")
        )
        self._step = 0
        self._write(file_version="brain.Event:2")
        here, runs = Path.cwd(), run.parent
        runs = runs.relative_to(here) if runs.is_relative_to(here) else runs
        self.address = f"tensorboard --logdir {shlex.quote(str(runs))}"
        if not goes_on:
            plain = {
                key: value if isinstance(value, bool | int | float | str) else json.dumps(value)
                for key, value in options.items()
            }
            self._write(summary=hparams_pb(plain, trial_id=run.name, start_time_secs=time.time()))

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._step = number
        self._values(
            *(self._summary.Value(tag=tag, simple_value=value) for tag, value in figures.items())
        )

    def rewind(self, epochs: int) -> None:
        """Drop the points of later epochs."""
        self._step = epochs + 1
        self._write(session_log=self._proto.SessionLog(status=self._proto.SessionLog.START))
        self._step = epochs

    def results(self, report: Report, figures: Mapping[str, float]) -> None:
        """Add a point for each figure."""
        self.epoch(max(self._step, report.training.epochs), figures)

    def picture(self, name: str, file: Path) -> None:
        """Show it as it is."""
        content = file.read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # of the PNG's first chunk
        image = self._summary.Image(
            encoded_image_string=content, width=width, height=height, colorspace=3
        )
        self._values(self._summary.Value(tag=name, image=image))

    def end(self, state: State, cause: str | None) -> None:
        """Show how it ended; a run that was stopped may be resumed."""
        from tensorboard.compat.proto import tensor_pb2, types_pb2  # noqa: PLC0415
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2  # noqa: PLC0415
        from tensorboard.plugins.text import metadata as text_metadata  # noqa: PLC0415

        text = f"{state}: {cause}" if cause else state
        tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[text.encode()])
        kind = text_metadata.create_summary_metadata(display_name="state", description="")
        self._values(self._summary.Value(tag="state", tensor=tensor, metadata=kind))
        if state != "stopped":
            status = api_pb2.STATUS_SUCCESS if state == "done" else api_pb2.STATUS_FAILURE
            ended = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
            content = plugin_data_pb2.HParamsPluginData(session_end_info=ended)
            kind = metadata.create_summary_metadata(content)
            tag = metadata.SESSION_END_INFO_TAG
            self._values(self._summary.Value(tag=tag, metadata=kind))
        self._records.close()

    def _values(self, *values: Any) -> None:
        self._write(summary=self._summary(value=values))

    def _write(self, **content: Any) -> None:
        event = self._proto.Event(wall_time=time.time(), step=self._step, **content)
        self._records.write(event.SerializeToString())
        self._records.flush()


TRACKER = TensorBoardTracker
