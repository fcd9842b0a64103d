"""Weights & Biases: a run of a project, sent to its service or kept in a folder here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from opsin.core.artifacts.run_report import PartFigures, Report
from opsin.core.artifacts.run_status import State
from opsin.core.stored_json import Json
from opsin.trackers.tracker import Tracker, TrackerKind

# Classes of the largest confusion matrix that can be read there.
_MOST: Final = 50
_STATUS: Final[Mapping[str, int]] = {"done": 0, "stopped": 130}


class WandbTracker(Tracker):
    """Sends what Opsin says of a run, and nothing that W&B would find out by itself.

    That is: the machine, its load, its packages, the command, the code and the terminal.
    """

    def start(self, run: Path, options: Mapping[str, Json], known: str | None) -> None:
        """Begin a run in the project that W&B's own variables name, or go on with it."""
        import wandb  # noqa: PLC0415

        self._run = wandb.init(
            name=run.name,
            id=known,
            resume="allow" if known else None,
            config=dict(options),
            save_code=False,
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
        self.id = self._run.id
        self.address = self._run.url or f"wandb sync {self._run.settings.sync_dir}"
        # Not W&B's own steps, which cannot go back.
        self._run.define_metric("*", step_metric="epoch")
        self._epoch = 0

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """Log the figures, with the epoch that they are drawn over."""
        self._epoch = number
        self._run.log({"epoch": number, **figures})

    def rewind(self, epochs: int) -> None:
        """Leave what is there: W&B takes nothing back, and keeps both values of an epoch."""
        self._epoch = epochs

    def results(self, report: Report, figures: Mapping[str, float]) -> None:
        """Put the figures into the run's summary, and show the confusion matrix."""
        self._run.summary.update(dict(figures))
        judged = report.judged
        if judged.confusion and len(judged.classes) <= _MOST:
            self._show_confusion(report.split, judged)

    def picture(self, name: str, file: Path) -> None:
        """Show it as it is."""
        import wandb  # noqa: PLC0415

        self._run.log({"epoch": self._epoch, name: wandb.Image(str(file))})

    def end(self, state: State, cause: str | None) -> None:
        """Put the state into the summary, and wait until all is sent."""
        self._run.summary.update({"state": state, **({"cause": cause} if cause else {})})
        self._run.finish(exit_code=_STATUS.get(state, 1))

    def _show_confusion(self, part: str, figures: PartFigures) -> None:
        import wandb  # noqa: PLC0415

        names = [entry.name for entry in figures.classes]
        rows = [
            [actual, predicted, count]
            for actual, counts in zip(names, figures.confusion, strict=True)
            for predicted, count in zip(names, counts, strict=True)
        ]
        columns = {name: name for name in ("Actual", "Predicted", "nPredictions")}
        chart = wandb.plot_table(
            "wandb/confusion_matrix/v1",
            wandb.Table(columns=[*columns], data=rows),
            columns,
            {"title": f"Confusion matrix ({part})"},
        )
        self._run.log({"epoch": self._epoch, f"{part}/confusion": chart})


KIND = TrackerKind(
    name="wandb",
    title="Weights & Biases",
    open=WandbTracker,
    package="wandb",
    advice="log in with `wandb login`, or keep the run here with WANDB_MODE=offline",
    environment={"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"},
)
