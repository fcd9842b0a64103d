"""What can be had without a neural network, on the same images and the same split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opsin.classical.classical_recipe import PIXEL_MODELS
from opsin.commands.compare import compare
from opsin.commands.runs import Run
from opsin.commands.train.load import sources_in
from opsin.commands.train.train import train
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import refuse_swapped
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.core.recipe import DATA_OPTIONS, refuse_unknown
from opsin.data.dataset import Dataset, load, load_recipe
from opsin.report.side_by_side import Comparison
from opsin.report.terminal import for_people


@checked
def train_baselines(
    data: object,
    *,
    models: Sequence[str] = tuple(PIXEL_MODELS),
    seed: int | None = None,
    runs: str | os.PathLike[str] = "runs",
    watcher: Watcher | None = None,
    quiet: bool = False,
    **options: Any,
) -> tuple[Run, ...]:
    """Train models without layers, each with its defaults, one after the other.

    The data are loaded once, so that all runs have the same images and the same split. Each run
    looks at the test set once.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        models: Which, by name (default: all there are).
        seed: Of all of them (default: 0).
        runs: Folder for run directories.
        watcher: Receives the progress of the work (default: a progress display on standard error).
        quiet: Show nothing.
        **options: Fields of the data part of the recipe: ``classes``, ``size`` …

    Returns:
        The finished runs, in the order of ``models``.

    Raises:
        RecipeError: A name that is none, or an option that has an impossible value.
        OpsinError: As from `opsin.train`; the runs before are kept.
        KeyboardInterrupt: Ctrl-C; the runs before are kept.

    Example:
        >>> import tempfile
        >>> made = train_baselines("digits", models=["logistic"], classes=["0", "1"], quiet=True,
        ...                        runs=tempfile.mkdtemp())
        >>> [run.recipe.model.name for run in made]
        ['logistic']
    """
    unknown = [name for name in models if name not in PIXEL_MODELS]
    if unknown:
        raise RecipeError(
            f"models among {', '.join(PIXEL_MODELS)}", f"got {', '.join(unknown)}", "Choose there."
        )
    refuse_unknown(options, DATA_OPTIONS)
    if not isinstance(data, Dataset):
        data = load(*sources_in(data), watcher=watcher or for_people(quiet=quiet), **options)
    elif options:
        raise RecipeError(
            "no options of the data beside a loaded dataset",
            f"got {', '.join(options)}",
            "Give these to opsin.load.",
        )
    made = []
    for name in models:
        made.append(train(data, model=name, seed=seed, runs=runs, watcher=watcher, quiet=quiet))
    return tuple(made)


@checked
def compare_baselines(
    source: str | os.PathLike[str],
    *runs: str | os.PathLike[str],
    against: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    speed: bool = True,
    watcher: Watcher | None = None,
    quiet: bool = False,
) -> Comparison:
    """Train all baselines on a source, and compare them with runs on the same images.

    Args:
        source: The images; read as the first run read its own, so that the split is the same.
        *runs: Run directories, up to five; the baselines are set against the first.
        against: The run that all others are set against (default: the first).
        out: As for `opsin.compare`.
        speed: As for `opsin.compare`.
        watcher: Receives the progress of the work (default: a progress display on standard error).
        quiet: Show nothing.

    Returns:
        The comparison. The baselines' runs lie beside the first run, or in ``runs``.

    Raises:
        RunError: The runs have other test images than the source.
        OpsinError: As from `train_baselines` and `opsin.compare`.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> run = train("digits", model="logistic", classes=["1", "7"], runs=tempfile.mkdtemp(),
        ...             quiet=True)
        >>> found = compare_baselines("digits", run, speed=False, quiet=True)
        >>> [row.model for row in found.runs]
        ['logistic', 'logistic', 'forest', 'knn', 'svm', 'hist-gradient-boosting']
    """
    for run in runs:
        refuse_swapped(run, [source], "opsin compare {model} --baselines {images}")
    watcher = watcher or for_people(quiet=quiet)
    if not runs:
        made = train_baselines(source, watcher=watcher)
    else:
        first = Run(runs[0])
        recipe = first.recipe.data.model_copy(update={"sources": (os.fspath(source),)})
        data = load_recipe(recipe, watcher=watcher)
        made = train_baselines(data, runs=Path(runs[0]).parent, watcher=watcher)
    return compare(*runs, *made, against=against, out=out, speed=speed, watcher=watcher)
