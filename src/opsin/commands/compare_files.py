"""The files of a comparison: page, figures and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from opsin.commands.runs import Run
from opsin.core.arrays import Pixels
from opsin.core.artifacts.records import DatasetRecord, Epoch
from opsin.core.artifacts.run_predictions import PART_WORDS
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.errors import OpsinError
from opsin.core.events import Watcher, watched
from opsin.core.storage import write_bytes, write_json
from opsin.data.cache import digest_names
from opsin.data.dataset import read_corrected
from opsin.report.figures.comparison_figures import Curve, draw_accuracies, draw_together
from opsin.report.figures.style import save, shorten, styled, svg_of
from opsin.report.run_page import themed
from opsin.report.side_by_side import BOLD, Comparison, columns_of
from opsin.report.templates import fill

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Images of a group on the page.
_ON_PAGE: Final = 12


def write_files(
    comparison: Comparison, runs: Sequence[Run], folder: Path, watcher: Watcher
) -> Comparison:
    """Write ``compare.html``, ``compare.json`` and the figures, and return it with their names."""
    wanted = {
        image.digest
        for pair in comparison.pairs
        for _, images in pair.by_who_is_right()
        for image in images[:_ON_PAGE]
    }
    pixels, missing = _pixels(runs[0], wanted, watcher)
    if missing:
        watcher.note(missing)
        comparison = comparison.model_copy(update={"notes": (*comparison.notes, missing)})
    word = PART_WORDS[comparison.part]
    curves = [
        Curve(row.letter, row.model, run.directory.lines(Epoch))
        for row, run in zip(comparison.runs, runs, strict=True)
    ]
    files = [folder / "compare.html", folder / "compare.json"]
    with styled():
        drawings: dict[str, Figure] = {
            "curves": draw_together(curves),
            "accuracy": draw_accuracies(comparison.runs, comparison.headline, word),
        }
        for name in watched(watcher, "Figures", len(drawings), drawings, unit="figures"):
            files.append(save(drawings[name], folder / f"{name}.png"))
        drawn = {name: themed(svg_of(figure)) for name, figure in drawings.items()}
    comparison = comparison.model_copy(update={"files": tuple(files)})
    columns = columns_of(comparison.runs)
    page = fill(
        "compare.html",
        found=comparison,
        headings=[column.heading.replace("- ", "") for column in columns],
        table=list(zip(*(column.cells for column in columns), strict=True)),
        drawn=drawn,
        pixels=pixels,
        on_page=_ON_PAGE,
        shorten=shorten,
        word=word,
        bold=BOLD if any(row.best for row in comparison.runs) else None,
    )
    write_json(files[1], comparison.model_dump(mode="json", exclude_unset=True))
    write_bytes(files[0], page.encode("utf-8", "replace"))
    return comparison


def _pixels(run: Run, wanted: set[str], watcher: Watcher) -> tuple[dict[str, Pixels], str | None]:
    if not wanted:
        return {}, None
    location = run.directory.read(DatasetRecord).location
    places = location.model_dump(include={"sources", "test"}, exclude_unset=True)
    # Not the whole recipe: a run of another version may know other networks.
    recipe = run.directory.read(RecordedRecipe).data.model_copy(update=places | {"labels": None})
    pixels, reason = {}, f"where {run.path} took them from, they are no more"
    try:
        decoded, _ = read_corrected(recipe, watcher=watcher, for_training=False)
        for row, key in enumerate(digest_names(decoded.digests)):
            if key in wanted and key not in pixels:
                pixels[key] = np.array(decoded.images[row])
    except OpsinError as error:
        reason = str(error)
    if len(pixels) == len(wanted):
        return pixels, None
    missing = len(wanted) - len(pixels)
    return pixels, f"{missing:,} of {len(wanted):,} images cannot be shown, only named: {reason}"
