"""A dataset in figures: an overview, and the audit page."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from opsin.core.arguments import checked
from opsin.core.storage import write_bytes, write_json
from opsin.data.audit import Audit
from opsin.data.dataset import Dataset
from opsin.evaluation.mistakes import check_seed
from opsin.report.figures import dataset_figures as figures
from opsin.report.figures.style import save, styled
from opsin.report.templates import fill


@checked
def draw_data(dataset: Dataset, folder: str | os.PathLike[str], *, seed: int = 0) -> list[Path]:
    """Draw an overview of a dataset.

    Args:
        dataset: The images.
        folder: Folder for the figures: ``image.png`` (a training image enlarged, as a heat map),
            ``grid.png`` (25 with their names), ``means.png`` (the mean of each class) and
            ``classes.png`` (their sizes).
        seed: Seed of the random choice of training images.

    Returns:
        The files.

    Raises:
        RecipeError: The seed is below 0.
        StorageError: The disk refuses a write.
    """
    check_seed(seed)
    rows = dataset.split.train if len(dataset.split.train) else np.arange(len(dataset))
    shown = np.random.default_rng(seed).permutation(rows)[:25]
    labels = [dataset.classes[dataset.labels[row]] for row in shown]
    means = figures.class_means(dataset.images, dataset.labels, rows, len(dataset.classes))
    chosen = f"{len(shown)} of {len(rows):,} training images, drawn at random (seed {seed})"
    with styled():
        drawn = {
            "image": figures.draw_heat_map(
                dataset.images[int(shown[0])], f"{labels[0]} ({dataset.names[shown[0]]})"
            ),
            "grid": figures.draw_grid(list(dataset.images[shown]), labels, chosen),
            "means": figures.draw_means(means, dataset.classes),
            "classes": figures.draw_class_sizes(dataset.counts()),
        }
        return [save(figure, Path(folder) / f"{name}.png") for name, figure in drawn.items()]


@checked
def write_audit(audit: Audit, folder: str | os.PathLike[str]) -> Path:
    """Write the findings of an audit as a page, and all of them as JSON.

    Args:
        audit: The result of `opsin.audit`.
        folder: Folder for ``audit.html`` and ``audit.json``.

    Returns:
        The page.

    Raises:
        StorageError: The disk refuses a write.
    """
    page, data = Path(folder) / "audit.html", audit.dataset
    write_json(page.with_suffix(".json"), audit.records())
    part_of = data.split.part_names(len(data))
    # 18 cases per kind, and 4 images per case.
    text = fill(
        "audit.html", data=data, part_of=part_of, findings=audit.findings, shown=18, together=4
    )
    write_bytes(page, text.encode("utf-8", "backslashreplace"))
    return page
