"""MLflow: a run of an experiment, on a server or in a local database."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from opsin.core.artifacts.records import State
from opsin.core.stored_json import Json
from opsin.trackers import Tracker

_STATES: Final[Mapping[str, str]] = {"done": "FINISHED", "stopped": "KILLED"}
# Characters that its servers refuse in names.
_REFUSED: Final = re.compile(r"[^\w.\- :/]", re.ASCII)


class MLflowTracker(Tracker):
    """Logs by MLflow's client, which adds nothing about user, code and machine."""

    name = "mlflow"
    title = "MLflow"
    package = "mlflow"
    advice = "see that its server runs, and that MLFLOW_TRACKING_URI names it"
    environment: ClassVar = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    }

    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:
        """Begin a run in the experiment of MLflow's environment variables, or continue it."""
        import mlflow.entities  # noqa: PLC0415

        self._entities: Any = mlflow.entities
        self._client: Any = mlflow.MlflowClient()
        if known:
            info = self._client.get_run(known).info
            self._client.update_run(known, status="RUNNING")
        else:
            named = os.environ.get("MLFLOW_EXPERIMENT_NAME")
            number = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
            if named:
                number = mlflow.set_experiment(named).experiment_id
            info = self._client.create_run(number, run_name=run.name).info
            params = [
                self._entities.Param(
                    _REFUSED.sub("_", key), value if isinstance(value, str) else json.dumps(value)
                )
                for key, value in options.items()
            ]
            self._client.log_batch(info.run_id, params=params)
        self.id = info.run_id
        self.address = self._client.tracking_uri
        if self.address.startswith("http"):
            path = f"experiments/{info.experiment_id}/runs/{self.id}"
            self.address = f"{self.address.rstrip('/')}/#/{path}"

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log the figures at the epoch."""
        now, metric = time.time_ns() // 1_000_000, self._entities.Metric
        metrics = [metric(_REFUSED.sub("_", key), v, now, epoch) for key, v in figures.items()]
        self._client.log_batch(self.id, metrics)

    def end(self, state: State, cause: str | None) -> None:
        """Set the status, and the tag ``cause``."""
        if cause:
            self._client.set_tag(self.id, "cause", cause)
        self._client.set_terminated(self.id, _STATES.get(state, "FAILED"))


TRACKER = MLflowTracker
