"""A run, its history, and the list of all."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from opsin.classical.classical_recipe import FITTED, ClassicalRecipe, Fitting
from opsin.core.arguments import checked
from opsin.core.artifacts import run_report
from opsin.core.artifacts.records import IMPORTED, LATEST, Epoch, ImportRecord
from opsin.core.artifacts.run_directory import RunDirectory, find_runs
from opsin.core.artifacts.run_report import RunSummary
from opsin.core.errors import MissingExtraError, OpsinError, RunError
from opsin.core.recipe import Recipe, RecipeModel, Request
from opsin.core.stored_json import JsonObject
from opsin.runtime.classifier import Classifier

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


class ImportedModel(RecipeModel):
    """A classifier from elsewhere."""

    name: Literal["imported"] = "imported"
    file: str = Field(description="The file that it was read from.")
    prepare: str | None = Field(None, description="The pixels that it was trained on, as given.")
    output: str | None = Field(None, description="Which of its outputs answers, as given.")
    architecture: str | None = Field(None, description="What weights alone are of, as given.")
    graph: str | None = Field(None, description="The graph that weights alone were put into.")


class ImportRecipe(Request):
    """The recipe of an import; without images its source is the file itself."""

    model: ImportedModel
    training: Fitting = Fitting()


#: What a run's ``recipe.json`` may hold.
AnyRecipe = Recipe | ClassicalRecipe | ImportRecipe


@checked
class History(list[Epoch]):
    """The figures of each epoch, in order."""

    def frame(self) -> pd.DataFrame:
        """A row for each epoch, by its number, and a column for each of its figures."""
        try:
            import pandas as pd  # noqa: PLC0415  takes a second to load
        except ImportError as error:
            raise MissingExtraError("data frames", "evaluate") from error

        rows = [epoch.model_dump(include={*Epoch.model_fields}) for epoch in self]
        return pd.DataFrame(rows, columns=list(Epoch.model_fields)).set_index("epoch")


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
        """A run that may be damaged; reading its files says so."""
        run = cls.__new__(cls)
        run.directory = directory
        return run

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @property
    def recipe(self) -> AnyRecipe:
        """The request, with every default resolved."""
        recorded = self.directory.read(run_report.RecordedRecipe)
        name = recorded.model.name
        fitted: type[AnyRecipe] = ClassicalRecipe if name in FITTED else Recipe
        kind = ImportRecipe if name == IMPORTED else fitted
        try:
            return kind.model_validate(recorded.model_dump(exclude_unset=True))
        except ValidationError as error:
            raise RunError(
                f"{self.directory.recipe} is no recipe of Opsin: it lacks some of its parts, or "
                "has others",
                "Restore the file, or train again.",
            ) from error

    @property
    def history(self) -> History:
        """The figures of each epoch as a list; ``history.frame()`` is a data frame."""
        return History(self.directory.lines(Epoch))

    @property
    def report(self) -> run_report.Report:
        """Every figure of the report.

        Raises:
            RunError: The run is not finished.
        """
        return self.directory.read(run_report.Report)

    @property
    def figures(self) -> run_report.PartFigures:
        """Figures on the test set, or on validation data without one."""
        return self.report.judged

    @property
    def accuracy(self) -> float:
        """Accuracy on the test set, or on validation data without one."""
        return self.figures.accuracy

    def network(self) -> nn.Module:
        """Its network as a PyTorch module, with the weights of its file, which are fixed.

        It takes prepared images, ``[N, H, W, C]`` with pixels from 0 to 255, and returns logits,
        ``float32[N, K]``, as they are before calibration.

        Raises:
            MissingExtraError: PyTorch is not installed.
            ModelFileError: One of its operators has no gradient.
        """
        from opsin.models.onnx_network import TorchNetwork  # noqa: PLC0415  PyTorch

        return TorchNetwork(self.classifier().content)

    def imported(self) -> ImportRecord:
        """Origin of an imported classifier.

        Raises:
            RunError: It was not imported.
        """
        return self.directory.read(ImportRecord)

    def classifier(self, *, device: str = "auto") -> Classifier:
        """Open the run's classifier.onnx; ``device`` as for `Classifier`."""
        return Classifier(self.path, device=device)

    def summary(self) -> RunSummary:
        """Its row in a table of runs; unknown values are ``None``.

        A run whose files were damaged has the state ``damaged`` and its cause.
        """
        summary = run_report.summarise(self.directory)
        if summary.started is None:
            summary = replace(summary, started=_written(self.directory.recipe))
        if summary.state != "damaged":
            try:
                _ = self.recipe
            except OpsinError as error:
                summary = replace(summary, state="damaged", cause=str(error))
        return summary

    @property
    def source(self) -> str | None:
        """All its sources in one line; ``None`` if its recipe is damaged."""
        try:
            return self.recipe.data.source
        except OpsinError:
            return None

    def row(self) -> JsonObject:
        """`summary` as ``opsin runs --json`` prints it."""
        summary = self.summary()
        row = asdict(summary)
        del row["sources"]
        if summary.corrected:
            row["corrected"] = summary.corrected.model_dump(mode="json", exclude_unset=True)
        source = None if summary.state == "damaged" else self.source
        return row | {"run": str(self.path), "source": source}

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.summary().state}>"


@checked
def list_runs(root: str | os.PathLike[str] = "runs") -> list[Run]:
    """The runs below a folder, the newest first."""
    return [Run._listed(directory) for directory in find_runs(Path(root))]


def _written(file: Path) -> float | None:
    """Time that a file was written; ``None`` if implausible."""
    try:
        when = file.lstat().st_mtime
    except OSError:
        return None
    return when if 0 <= when <= LATEST else None
