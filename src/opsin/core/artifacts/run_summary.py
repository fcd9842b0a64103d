"""What a table of runs says of one, whatever is in its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import CorrectedLabels, Report
from opsin.core.artifacts.run_status import RunStatus
from opsin.core.errors import OpsinError, RunError

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
    """Return a run's row; no file of it, whatever it holds, raises an error.

    Example:
        >>> summarise(RunDirectory("nowhere")).state
        'damaged'
    """
    summary = RunSummary()
    try:
        run.check_own()
        summary = replace(summary, **_notes(run))
        state, cause = run.state()
        summary = replace(summary, **_recipe(run))
        if run.status.is_file():
            summary = replace(summary, started=run.read(RunStatus).started)
        if run.report.is_file():
            summary = replace(summary, **_report(run))
    except OpsinError as error:
        return replace(summary, state="damaged", cause=str(error)[:_LONGEST])
    return replace(summary, state=state, cause=None if cause is None else cause[:_LONGEST])


def _notes(run: RunDirectory) -> dict[str, Any]:
    notes = run.read_notes()
    return {"name": notes.name, "note": notes.note}


def _recipe(run: RunDirectory) -> dict[str, Any]:
    with _sound(run.recipe):
        recipe = run.read_content(run.recipe)
        sources = recipe["data"]["sources"]
        if not isinstance(sources, list):
            raise TypeError("sources are no list")
        return {
            "sources": tuple(_text(each) for each in sources),
            "model": _text(recipe["model"]["name"]),
        }


def _report(run: RunDirectory) -> dict[str, Any]:
    report = run.read(Report)
    figures = report.judged
    return {
        "split": report.split,
        "accuracy": figures.accuracy,
        "low": figures.low,
        "high": figures.high,
        "seconds": report.seconds.get("train"),
        "bytes": report.file.bytes,
        "corrected": figures.corrected,
    }


@contextmanager
def _sound(file: Path) -> Iterator[None]:
    """Turn the ways in which values are none that Opsin writes into one error."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RunError(
            f"a whole {file.name}",
            f"{file} lacks some of its parts, or has others ({error!r:.200})",
            "Restore the file or train again.",
        ) from error


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError("no text, or a very long one")
    return value
