"""MLflow: a run of an experiment, on a server or in a database here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opsin.core.artifacts.run_report import Report
from opsin.core.artifacts.run_status import State
from opsin.core.stored_json import Json
from opsin.trackers.tracker import Tracker, TrackerKind

if TYPE_CHECKING:
    from mlflow.entities import Param

_STATES: Final[Mapping[str, str]] = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_RETRIES: Final = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# What its servers refuse in names.
_REFUSED: Final = re.compile(r"[^\w.\- :/]", re.ASCII)


class MLflowTracker(Tracker):
    """Writes by MLflow's client, which holds no run for the whole process and patches nothing."""

    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:
        """Make a run in the experiment that MLflow's own variables name, or go on with it."""
        from mlflow import MlflowClient  # noqa: PLC0415

        self._client = MlflowClient()
        with _told_soon():
            found = None if known is None else self._found(known)
            experiment = found or self._experiment()
        if found and known:
            self.id = known
            self._client.update_run(known, status="RUNNING")
        else:
            self.id = self._client.create_run(experiment, run_name=run.name).info.run_id
            self._client.log_batch(self.id, params=_params(options))
        self._run = self.id
        uri = self._client.tracking_uri
        self.address = uri
        if uri.startswith("http"):
            self.address = f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{self.id}"

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Log the figures at the epoch."""
        self._log(number, figures)

    def rewind(self, epochs: int) -> None:
        """Leave what is there: MLflow takes nothing back, and keeps both values of an epoch."""

    def results(self, report: Report, figures: Mapping[str, float]) -> None:
        """Log the figures at the last epoch."""
        self._log(report.training.epochs, figures)

    def picture(self, name: str, file: Path) -> None:
        """Send the file into the folder that its name begins with."""
        self._client.log_artifact(self._run, str(file), name.rpartition("/")[0])

    def end(self, state: State, cause: str | None) -> None:
        """Set the status, and the tag ``cause``."""
        if cause:
            self._client.set_tag(self._run, "cause", cause)
        self._client.set_terminated(self._run, _STATES.get(state, "FAILED"))

    def _log(self, step: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        now = time.time_ns() // 1_000_000
        metrics = [
            Metric(_REFUSED.sub("_", name), figure, now, step) for name, figure in figures.items()
        ]
        self._client.log_batch(self._run, metrics)

    def _found(self, known: str) -> str | None:
        """Return the experiment of a run, or nothing where there is no such run any more."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        try:
            info = self._client.get_run(known).info
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return str(info.experiment_id) if info.lifecycle_stage == "active" else None

    def _experiment(self) -> str:
        """Return the experiment that MLflow's variables name; it is made where there is none."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        named = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if not named:
            wanted = os.environ.get("MLFLOW_EXPERIMENT_ID") or "0"
            return str(self._client.get_experiment(wanted).experiment_id)
        found = self._client.get_experiment_by_name(named)
        if found is None:
            try:
                return str(self._client.create_experiment(named))
            except MlflowException as error:  # another process may have been quicker
                found = self._client.get_experiment_by_name(named)
                if found is None:
                    raise error from None
        return str(found.experiment_id)


def _params(options: Mapping[str, Json]) -> list[Param]:
    from mlflow.entities import Param  # noqa: PLC0415

    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in options.items()}
    return [Param(_REFUSED.sub("_", name), text) for name, text in texts.items()]


@contextlib.contextmanager
def _told_soon() -> Iterator[None]:
    """Ask twice only, so that a server that is not there is told of at the beginning."""
    before = os.environ.get(_RETRIES)
    os.environ.setdefault(_RETRIES, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RETRIES]


KIND = TrackerKind(
    name="mlflow",
    title="MLflow",
    open=MLflowTracker,
    package="mlflow",
    advice="see that its server runs, and that MLFLOW_TRACKING_URI names it",
    environment={"MLFLOW_DISABLE_TELEMETRY": "true"},
)
