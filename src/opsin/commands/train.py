"""From a source to a run: load, train, export, evaluate, report."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Unpack

from opsin.classical.classical_recipe import FITTED
from opsin.commands.carry_out import begun_before, carry_out, watcher_of_run
from opsin.commands.load_dataset import load_for, model_asked
from opsin.commands.resolve_recipe import resolve_recipe
from opsin.commands.resume import go_on
from opsin.commands.runs import Run
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_status import RunStatus
from opsin.core.events import Watcher
from opsin.core.keyword_options import TrainOptions
from opsin.core.storage import check_writable
from opsin.training.process_group import joined, refuse_several

_IN_ONE_GO: Final = "a model that is not a network trained from the start"


@checked
def train(
    data: object,
    *,
    model: str | None = None,
    budget: str | float | None = None,
    runs: str | os.PathLike[str] = "runs",
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
    offline: bool = False,
    **options: Unpack[TrainOptions],
) -> Run:
    """Train a classifier and evaluate the file that comes out.

    The first Ctrl-C ends the epoch where it is; the run is then finished with what there is, and
    `resume` can go on with it.

    Processes that ``torchrun`` started train one network together, and return the same run; started
    again, they continue the run that they had begun.

    Args:
        data: A dataset, or what `opsin.load` takes: a source, an object, or a list of several.
        model: ``mlp``, ``cnn`` or ``resnet``; ``auto`` (default) takes a pretrained network, or
            chooses network, size and recipe, by the images and the machine. Without layers, and
            without PyTorch: ``logistic``, ``forest``, ``knn``, ``svm``,
            ``hist-gradient-boosting``.
        budget: Time that the training may take, in seconds or as ``10m``. Where ``auto`` takes a
            pretrained network, it is fine-tuned in what is left of it; else epochs and size are
            fitted to it after a short measurement.
        runs: Folder for run directories.
        name: What the run directory is called (default: source and model).
        watcher: Receives the progress of the work (default: a progress display on standard error).
        observers: Get the same events beside the display, such as trackers of yours; one that
            raises costs a warning, and never the run.
        track: Programs that the run is shown in as well: ``tensorboard``, ``mlflow``, ``wandb``,
            or several with commas between them. One that fails costs a warning, never the run.
        quiet: Show nothing.
        offline: Fetch no pretrained network: use what is on this machine.
        **options: Fields of the recipe: ``epochs``, ``rate``, ``seed`` … (without layers those of
            `opsin.classical.classical_recipe`); with a source also those of its data part:
            ``classes``, ``size`` …

    Returns:
        The finished run. Where the loss ran away for good, ``report.training.diverged``
        says so, and the file is that of the best epoch before.

    Raises:
        MissingExtraError: PyTorch, or the package of a tracker, is not installed.
        SourceError: The source is missing, damaged, or no classifier can be made from it.
        RecipeError: An option has an impossible value.
        ParityError: The exported file answers otherwise than the network.
        StorageError: ``runs`` cannot be written, which is said at once; or the disk refuses a write
            later.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=2, runs=folder, quiet=True)
        >>> run.accuracy > 0.5
        True
    """
    check_writable(Path(runs) / "run")  # at once, not when all is read
    began = time.perf_counter()
    with joined() as group:
        tell = watcher_of_run(watcher, observers, track, quiet=quiet, group=group)
        given: dict[str, Any] = {**options}
        begun = begun_before(Path(runs), group)
        if begun is not None and begun.read(RunStatus).state == "done":
            return Run(begun.path)
        if model_asked(model, given) in FITTED:  # said at once
            refuse_several(_IN_ONE_GO)
        loaded = load_for(data, model, given, budget=budget, offline=offline, watcher=tell)
        model, dataset, budget = loaded.model, loaded.dataset, loaded.budget
        if model in FITTED:
            refuse_several(_IN_ONE_GO)
        in_steps = model not in FITTED or given.get("fine_tune")
        if begun is not None and begun.recipe.is_file() and in_steps:
            return go_on(begun.path, dataset, group=group, watcher=tell, began=began)

        def directory_of(network: str) -> RunDirectory:
            title = name or f"{dataset.recipe.title}-{network}"
            return begun or RunDirectory.create(Path(runs), title)

        if model in FITTED:
            from opsin.commands.train_classical import train_classical  # noqa: PLC0415  quicker without

            return train_classical(
                lambda: directory_of(model),
                dataset,
                model=model,
                budget=budget,
                options=given,
                watcher=tell,
                began=began,
                backbone=loaded.backbone,
                reasons=loaded.reasons,
                launch=group.launch,
            )
        decided = resolve_recipe(
            dataset, model=model, budget=budget, options=given, watcher=tell, reasons=loaded.reasons
        )
        return carry_out(
            lambda: directory_of(decided.recipe.model.name),
            dataset,
            decided,
            watcher=tell,
            began=began,
            start=None,
            group=group,
        )
