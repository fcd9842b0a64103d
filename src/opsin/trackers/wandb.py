"""Weights & Biases: a run of a project, on its service or in a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from opsin.core.artifacts.records import State
from opsin.core.stored_json import Json
from opsin.trackers import Tracker


class WandbTracker(Tracker):
    """Sends only Opsin's data, nothing that W&B would collect itself."""

    name = "wandb"
    title = "Weights & Biases"
    package = "wandb"
    advice = "log in with `wandb login`, or keep the run here with WANDB_MODE=offline"
    environment: ClassVar = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}

    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:
        """Begin a run in the project of W&B's environment variables, or continue it."""
        import wandb  # noqa: PLC0415

        # No machine, load, packages, command, code or terminal output.
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            name=run.name,
            id=known,
            resume="allow" if known else None,
            config=dict(options),
            save_code=False,
            settings=settings,
        )
        self.id = self._run.id
        self.address = self._run.url or f"wandb sync {self._run.settings.sync_dir}"
        # W&B's own steps cannot go back.
        self._run.define_metric("*", step_metric="epoch")

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log the figures over the epoch."""
        self._run.log({"epoch": epoch, **figures})

    def end(self, state: State, cause: str | None) -> None:
        """Put the state into the summary, and wait for the upload."""
        self._run.summary.update({"state": state, **({"cause": cause} if cause else {})})
        self._run.finish(exit_code={"done": 0, "stopped": 130}.get(state, 1))


TRACKER = WandbTracker
