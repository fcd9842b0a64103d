"""Baselines without a neural network, on the same images and split."""

from __future__ import annotations

import os
from pathlib import Path

from opsin.classical.classical_recipe import PIXEL_MODELS
from opsin.commands.compare import compare
from opsin.commands.runs import Run
from opsin.commands.train.train import train
from opsin.core.arguments import checked
from opsin.core.events import Watcher
from opsin.data.dataset import load, load_recipe
from opsin.report.side_by_side import Comparison
from opsin.report.terminal import for_people


@checked
def compare_baselines(
    source: str | os.PathLike[str],
    *runs: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher | None = None,
    quiet: bool = False,
) -> Comparison:
    """Train all models without layers on a source, and compare them with runs on the same images.

    Args:
        source: The images; read as the first run read its own, so that the split is the same.
        *runs: Run directories, up to five; the baselines are set against the first.
        out: As for `opsin.compare`.
        watcher: Receives the progress of the work (default: a progress display on standard error).
        quiet: Show nothing.

    Returns:
        The comparison. The baselines' runs lie beside the first run, or in ``runs``.

    Raises:
        RunError: The runs have other test images than the source.
        OpsinError: As from `opsin.train` and `opsin.compare`; runs that are done are kept.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> run = train("digits", model="logistic", classes=["1", "7"], runs=tempfile.mkdtemp(),
        ...             quiet=True)
        >>> comparison = compare_baselines("digits", run, quiet=True)
        >>> [row.model for row in comparison.runs]
        ['logistic', 'logistic', 'forest', 'knn', 'svm']
    """
    watcher, folder = watcher or for_people(quiet=quiet), Path("runs")
    if runs:
        recipe = Run(runs[0]).recipe.data.model_copy(update={"sources": (os.fspath(source),)})
        data, folder = load_recipe(recipe, watcher=watcher), Path(runs[0]).parent
    else:
        data = load(source, watcher=watcher)
    made = [train(data, model=name, runs=folder, watcher=watcher) for name in PIXEL_MODELS]
    return compare(*runs, *made, out=out, watcher=watcher)
