"""The figures and the page of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsin.data.cache import short_digest
from opsin.data.dataset import Dataset, load_recipe
from opsin.errors import SourceError
from opsin.evaluation.mistakes import confident_mistakes, typical_rows
from opsin.events import SILENT, Watcher
from opsin.report.figures.run import Answer, draw_answers, draw_confusion, draw_curves
from opsin.report.figures.style import save, styled
from opsin.report.page import render
from opsin.run import RunDirectory
from opsin.storage import write_bytes
from opsin.workflow.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(run: str | os.PathLike[str], *, watcher: Watcher = SILENT) -> Path:
    """Draw a finished run's figures and page anew.

    Args:
        run: A run directory.
        watcher: Is told how far the work is.

    Returns:
        The page, ``report.html``.

    Raises:
        RunError: The run is missing or not finished.
        SourceError: The pictures it was made from are gone, or have changed since.
    """
    opened = Run(run)
    _ = opened.report  # says so at once, where the run is not finished
    about = opened.directory.read(opened.directory.dataset)
    data = load_recipe(opened.recipe.data.model_copy(update=about["location"]), watcher=watcher)
    if data.fingerprint != about["fingerprint"]:
        raise SourceError(
            f"the pictures that {run} was trained on",
            f"{data.recipe.source} has changed since",
            "Restore them, or train again.",
        )
    draw_run(opened.directory, data, watcher)
    return opened.directory.page


def draw_run(directory: RunDirectory, dataset: Dataset, watcher: Watcher) -> None:
    """Write ``figures/`` and ``report.html`` from the run's files and the pictures."""
    run = Run(directory.path)
    facts = run.report
    figures = facts["figures"][facts["split"]]
    kept = directory.load_arrays(directory.predictions)
    rows, labels, probabilities = (
        kept[f"{facts['split']}_{part}"] for part in ("rows", "labels", "probabilities")
    )
    # By content, since files may have been renamed, and so reordered, since the training.
    place_of = {short_digest(d).tobytes(): row for row, d in enumerate(dataset.digests)}
    digests = directory.load_arrays(directory.split)["digests"]
    rows = np.array([place_of[digests[row].tobytes()] for row in rows], np.int64)

    def shown(places: NDArray[np.int64]) -> list[Answer]:
        return [
            Answer(
                pixels=dataset.images[rows[place]],
                name=dataset.names[rows[place]],
                actual=dataset.classes[labels[place]],
                probabilities=dict(
                    zip(dataset.classes, map(float, probabilities[place]), strict=True)
                ),
            )
            for place in places
        ]

    typical = shown(typical_rows(len(rows)))
    mistakes = shown(confident_mistakes(probabilities, labels))
    history = run.history
    right = sum(answer.right for answer in typical)
    drawings: dict[str, Callable[[], Figure]] = {
        "curves": lambda: draw_curves(history),
        "confusion": lambda: draw_confusion(figures),
        "answers": lambda: draw_answers(
            typical, f"{right} of {len(typical)} right; in all {figures['accuracy']:.1%}"
        ),
        "mistakes": lambda: draw_answers(
            mistakes[:15], "The most confident mistakes" if mistakes else "No mistakes"
        ),
    }
    watcher.begin("Report", len(drawings) + 1, "figures")
    with styled():
        for done, (name, draw) in enumerate(drawings.items()):
            watcher.advance(done)
            figure = draw()
            for kind in ("png", "svg"):
                save(figure, directory.figures / f"{name}.{kind}")
    page = render(
        facts,
        run.recipe.model_dump(mode="json"),
        history,
        name=directory.path.name,
        answers=typical,
        mistakes=mistakes,
    )
    write_bytes(directory.page, page.encode("utf-8", "replace"))
    watcher.end()
