"""A training goes on where it was stopped or killed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opsin.commands.runs import Run
from opsin.commands.train.begun import begun_before, learner_of
from opsin.commands.train.recorder import watcher_of_run
from opsin.commands.train.train import run_training
from opsin.core.arguments import checked
from opsin.core.artifacts.records import RunStatus
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.events import Watcher
from opsin.data.dataset import Dataset
from opsin.data.run_images import Places
from opsin.training.process_group import joined


@checked
def resume(
    run: str | os.PathLike[str],
    data: Dataset | Places = (),
    *,
    name: str | None = None,
    watcher: Watcher | None = None,
    observers: Sequence[Watcher] = (),
    track: str | Sequence[str] | None = None,
    quiet: bool = False,
    **changes: Any,
) -> Run:
    """Go on with a training from its newest whole checkpoint, bit for bit as if never left.

    Args:
        run: A run that was stopped, killed or has failed. With ``changes``, a finished one too.
        data: Its images, if they came from arrays in memory, or where they are now, if they were
            moved (default: read from its sources). They must be the same.
        name: What a new run is called (default: its parent's name).
        watcher: Receives the progress of the work (default: a progress display on standard error).
        observers: Get the same events beside the display, such as trackers of yours; one that
            raises costs a warning, and never the run.
        track: As for `opsin.train`. A run that was tracked before goes on there, too, and a new
            one is a new one.
        quiet: Show nothing.
        **changes: Options of the training that are to be others from here on: ``epochs``,
            ``rate`` … The training then goes on in a new run that names this one as its parent.

    Returns:
        The finished run: the same one, or the new one.

    Raises:
        RunError: Another process works on the run, it has no checkpoint to go on from, it is
            done, or its images are in another order or have another split.
        MovedError: The images are gone, and ``data`` does not say where to.
        SourceError: The images have changed since.
        RecipeError: An option that cannot be changed, or nothing is left to train.

    Example:
        >>> import tempfile
        >>> from opsin import train
        >>> runs = tempfile.mkdtemp()
        >>> run = train("digits", model="mlp", epochs=2, runs=runs, quiet=True)
        >>> longer = resume(run, epochs=3, quiet=True)
        >>> longer.recipe.parent == run.path.name
        True
    """
    began = time.perf_counter()
    with joined() as group:
        tell = watcher_of_run(watcher, observers, track, quiet=quiet, group=group)
        changes = {key: value for key, value in changes.items() if value is not None}
        begun = begun_before(Path(run).parent, group)
        if begun is not None and begun.read(RunStatus).state == "done":
            return Run(begun.path)
        if begun is not None and begun.recipe.is_file():
            run, changes, name = begun.path, {}, None
        parent = RunDirectory.open(run)
        learner = learner_of(
            parent, data, changes, name=name, group=group, watcher=tell, began=began
        )
        # Without its date and the number of its namesakes.
        title = name or re.sub(r"^\d{4}-\d\d-\d\d-|-\d+$", "", parent.path.name)

        def directory_of() -> RunDirectory:
            if not changes:
                return parent
            return RunDirectory.create(parent.path.parent, title or parent.path.name)

        return run_training(learner, directory_of, watcher=tell, began=began, group=group)
