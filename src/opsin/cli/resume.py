"""`opsin resume`: continue a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opsin.cli import recipe_flags
from opsin.cli.recipe_flags import Track
from opsin.cli.train import show_run
from opsin.core.recipe import CHANGEABLE


@recipe_flags.takes(*CHANGEABLE, after="run")
def resume(
    run: Path,
    *,
    name: str | None = None,
    data: list[str] | None = None,
    track: Track = None,
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Continue a run that was stopped or killed where it left off.

    It continues from the last checkpoint, in the middle of an epoch if need be, and comes to the
    same weights. With options, which a finished run needs, the training goes on in a new run beside
    it, which names it as its parent.

    Example: opsin resume runs/2026-11-21-photos-resnet

    Example: opsin resume runs/2026-11-21-photos-resnet --epochs 20

    Options:
        data (SOURCE): Where the run's images are now, if they were moved; they must be the same.
        run (RUN): A run directory.
        name: Name of the new run, where options make it one.
    """
    from opsin.commands.train.train import resume as workflow  # noqa: PLC0415  needs what trains

    resumed = workflow(run, data or (), name=name, track=track, quiet=quiet, **fields)
    show_run(resumed, as_json=as_json)
