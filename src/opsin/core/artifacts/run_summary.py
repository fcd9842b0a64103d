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
    """A run in a row; what is not known is ``None``.

    Args:
        state: ``running``, ``done``, ``stopped``, ``failed``; ``damaged`` where its files are not
            what a run's are.
        cause: Why it stands there.
        name: What people call it; empty where they gave no name.
        note: What they wrote about it.
        sources: What it was trained on.
        model: Name of its model.
        started: When it began, in seconds since 1970.
        split: On what it was measured: ``test``, or ``val`` where there is no test data.
        accuracy: Share of right answers there, 0 to 1.
        low: Lower end of its 95% interval.
        high: Upper end.
        seconds: Time spent training.
        bytes: Size of its classifier.
        corrected: What corrections of labels did to the accuracy; ``None``: nothing.
    """

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
    summary = RunSummary()
    try:
        run.check_own()
        notes = run.read_notes()
        summary = replace(summary, name=notes.name, note=notes.note)
        state, cause = run.state()
        recipe = run.read(RecordedRecipe)
        sources = tuple(source[:_LONGEST] for source in recipe.data.sources)
        summary = replace(summary, sources=sources, model=recipe.model.name)
        if run.status.is_file():
            summary = replace(summary, started=run.read(RunStatus).started)
        if run.report.is_file():
            summary = _with_report(summary, run.read(Report))
    except OpsinError as error:
        return replace(summary, state="damaged", cause=str(error)[:_LONGEST])
    return replace(summary, state=state, cause=None if cause is None else cause[:_LONGEST])


def _with_report(summary: RunSummary, report: Report) -> RunSummary:
    figures = report.judged
    return replace(
        summary,
        split=report.split,
        accuracy=figures.accuracy,
        low=figures.low,
        high=figures.high,
        seconds=report.seconds.get("train"),
        bytes=report.file.bytes,
        corrected=figures.corrected,
    )
