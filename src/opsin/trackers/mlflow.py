"""MLflow: a run of an experiment, on a server or in a database here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from opsin.core.artifacts.records import State
from opsin.core.artifacts.run_report import Report
from opsin.core.stored_json import Json
from opsin.trackers import Tracker

_STATES: Final[Mapping[str, str]] = {"done": "FINISHED", "stopped": "KILLED"}
_RETRIES: Final = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# What its servers refuse in names.
_REFUSED: Final = re.compile(r"[^\w.\- :/]", re.ASCII)


class MLflowTracker(Tracker):
    """Writes by MLflow's client, which holds no run for the whole process and patches nothing."""

    name = "mlflow"
    title = "MLflow"
    package = "mlflow"
    advice = "see that its server runs, and that MLFLOW_TRACKING_URI names it"
    environment: ClassVar = {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:
        """Make a run in the experiment that MLflow's own variables name, or continue it."""
        import mlflow.entities  # noqa: PLC0415
        import mlflow.exceptions  # noqa: PLC0415

        self._mlflow: Any = mlflow
        self._client: Any = mlflow.MlflowClient()
        before = os.environ.get(_RETRIES)
        os.environ.setdefault(_RETRIES, "1")  # a server that is not there is told at once
        found = None if known is None else self._experiment_of(known)
        experiment = found or self._experiment()
        if before is None:
            del os.environ[_RETRIES]
        if found and known:
            self.id = known
            self._client.update_run(known, status="RUNNING")
        else:
            self.id = self._client.create_run(experiment, run_name=run.name).info.run_id
            texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in options.items()}
            param = mlflow.entities.Param
            params = [param(_REFUSED.sub("_", key), text) for key, text in texts.items()]
            self._client.log_batch(self.id, params=params)
        self.address = self._client.tracking_uri
        if self.address.startswith("http"):
            self.address = f"{self.address.rstrip('/')}/#/experiments/{experiment}/runs/{self.id}"

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Log the figures at the epoch."""
        now, metric = time.time_ns() // 1_000_000, self._mlflow.entities.Metric
        metrics = [metric(_REFUSED.sub("_", key), v, now, number) for key, v in figures.items()]
        self._client.log_batch(self.id, metrics)

    def rewind(self, epochs: int) -> None:
        """MLflow takes nothing back, and keeps both values of an epoch."""

    def results(self, report: Report, figures: Mapping[str, float]) -> None:
        """Log the figures at the last epoch."""
        self.epoch(report.training.epochs, figures)

    def picture(self, name: str, file: Path) -> None:
        """Send the file into the folder that its name begins with."""
        self._client.log_artifact(self.id, str(file), name.rpartition("/")[0])

    def end(self, state: State, cause: str | None) -> None:
        """Set the status, and the tag ``cause``."""
        if cause:
            self._client.set_tag(self.id, "cause", cause)
        self._client.set_terminated(self.id, _STATES.get(state, "FAILED"))

    def _experiment_of(self, known: str) -> str | None:
        """Return the experiment of a run; ``None`` where the run was deleted."""
        try:
            info = self._client.get_run(known).info
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return str(info.experiment_id) if info.lifecycle_stage == "active" else None

    def _experiment(self) -> str:
        """Return the experiment that MLflow's variables name; it is made where there is none."""
        named = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if not named:
            wanted = os.environ.get("MLFLOW_EXPERIMENT_ID") or "0"
            return str(self._client.get_experiment(wanted).experiment_id)
        if self._client.get_experiment_by_name(named) is None:
            # Another process may be quicker; a true refusal shows in the next line.
            with contextlib.suppress(self._mlflow.exceptions.MlflowException):
                self._client.create_experiment(named)
        return str(self._client.get_experiment_by_name(named).experiment_id)


TRACKER = MLflowTracker
