"""A run as its user holds it, and the table of all."""

from __future__ import annotations

import base64
import html
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from opsin.classical.classical_recipe import FITTED, ClassicalRecipe
from opsin.core.arguments import checked
from opsin.core.artifacts.artifact import LATEST, read_objects
from opsin.core.artifacts.run_directory import RunDirectory, find_runs
from opsin.core.artifacts.run_report import Report
from opsin.core.artifacts.run_summary import summarise
from opsin.core.errors import OpsinError, RunError
from opsin.core.recipe import Recipe, as_recorded
from opsin.runtime.classifier import Classifier


@checked
class Run:
    """One training: its recipe, its history, its figures and its classifier.

    Args:
        path: The run directory.

    Raises:
        RunError: There is no run directory at ``path``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.directory = RunDirectory.open(path)

    @classmethod
    def _listed(cls, directory: RunDirectory) -> Run:
        """Return a run that may be damaged; what needs its files says so."""
        run = cls.__new__(cls)
        run.directory = directory
        return run

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @property
    def recipe(self) -> Recipe | ClassicalRecipe:
        """What was asked for, every default resolved."""
        content = self.directory.read_content(self.directory.recipe)
        content = {**content, "data": as_recorded(content.get("data"))}
        model = content.get("model")
        classical = isinstance(model, dict) and model.get("name") in FITTED
        try:
            return (ClassicalRecipe if classical else Recipe).model_validate(content)
        except ValidationError as error:
            raise RunError(
                f"a recipe of Opsin in {self.directory.recipe}",
                "it lacks some of its parts, or has others",
                "Restore the file, or train again.",
            ) from error

    @property
    def history(self) -> list[dict[str, Any]]:
        """The figures of each epoch."""
        return read_objects(self.directory.history)

    @property
    def report(self) -> dict[str, Any]:
        """Every figure of the report.

        Raises:
            RunError: The run is not finished.
        """
        return self.directory.read_content(self.directory.report)

    @property
    def figures(self) -> dict[str, Any]:
        """How good the file is: on the test set, or on validation data where there is none."""
        return self.directory.read(Report).judged.to_json()

    @property
    def accuracy(self) -> float:
        """Share of right answers on the test set, or on validation data where there is none."""
        return self.directory.read(Report).judged.accuracy

    def classifier(self) -> Classifier:
        """Open the run's classifier.onnx."""
        return Classifier(self.path)

    def row(self) -> dict[str, Any]:
        """Return the run as a row of the table of runs; what is not known is ``None``.

        A run whose files were damaged has the state ``damaged`` and its cause.
        """
        summary = summarise(self.directory)
        row = asdict(summary)
        del row["sources"]
        if summary.corrected:
            row["corrected"] = summary.corrected.to_json()
        row |= {"run": str(self.path), "source": None}
        if summary.started is None:
            row["started"] = _written(self.directory.recipe)
        if summary.state != "damaged":
            try:
                recipe = self.recipe
                row |= {"source": recipe.data.source, "model": recipe.model.name}
            except OpsinError as error:
                row |= {"state": "damaged", "cause": str(error)}
        return row

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.row()['state']}>"

    def _repr_html_(self) -> str:
        row = self.row()
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
            f"<td>{html.escape(str(value))}</td></tr>"
            for key, value in row.items()
            if value is not None and key != "started"
        )
        curves = self.directory.figures / "curves.png"
        image = ""
        if row["state"] != "damaged" and curves.is_file():
            data = base64.b64encode(curves.read_bytes()).decode("ascii")
            image = (
                f"<img width='640' alt='Curves of accuracy and loss' "
                f"src='data:image/png;base64,{data}'>"
            )
        return f"<table>{cells}</table>{image}"


@checked
def list_runs(root: str | os.PathLike[str] = "runs") -> list[Run]:
    """Return the runs below a folder, the newest first."""
    return [Run._listed(directory) for directory in find_runs(Path(root))]


def _written(file: Path) -> float | None:
    """Return when a file was written, by a clock that goes right."""
    try:
        when = file.lstat().st_mtime
    except OSError:
        return None
    return when if 0 <= when <= LATEST else None
