"""What a table of runs says of one, whatever is in its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from opsin.core.artifacts.recorded_recipe import RecordedRecipe
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import CorrectedLabels, Report
from opsin.core.artifacts.run_status import RunStatus
from opsin.core.errors import OpsinError

# Characters of the longest text; a source may be long, and a cause holds some.
_LONGEST: Final = 20_000


@dataclass(frozen=True)
class RunSummary:
    """A run in a row; what is not known is ``None``."""

    state: str = "damaged"
    cause: str | None = None
    name: str = ""
    note: str = ""
    sources: tuple[str, ...] = ()
    model: str | None = None
    started: float | None = None
    split: str | None = None
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: float | None = None
    bytes: int | None = None
    corrected: CorrectedLabels | None = None


def summarise(run: RunDirectory) -> RunSummary:
    """Return a run's row; no file of it, whatever it holds, raises an error."""
    row = RunSummary()
    try:
        run.check_own()
        notes = run.read_notes()
        row = replace(row, name=notes.name, note=notes.note)
        state, cause = run.state()
        recipe = run.read(RecordedRecipe)
        sources = tuple(source[:_LONGEST] for source in recipe.data.sources)
        row = replace(row, sources=sources, model=recipe.model.name)
        if run.status.is_file():
            row = replace(row, started=run.read(RunStatus).started)
        if run.report.is_file():
            report = run.read(Report)
            figures = report.judged
            row = replace(
                row, split=report.split, accuracy=figures.accuracy, low=figures.low,
                high=figures.high, seconds=report.seconds.get("train"), bytes=report.file.bytes,
                corrected=figures.corrected,
            )  # fmt: skip
    except OpsinError as error:
        return replace(row, state="damaged", cause=str(error)[:_LONGEST])
    return replace(row, state=state, cause=None if cause is None else cause[:_LONGEST])
