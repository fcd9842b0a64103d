"""`opsin train`: from a source to a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from opsin.classical.classical_recipe import PIXEL_MODELS
from opsin.cli import options, recipe_flags
from opsin.cli.options import flag
from opsin.cli.recipe_file import merge_options, read_options
from opsin.cli.track_option import Track
from opsin.cli.train_output import tell_plan, tell_repeats, tell_run
from opsin.core.errors import RecipeError
from opsin.models.registry import MODELS as NETWORKS
from opsin.report.terminal import for_people


@recipe_flags.takes_training(after="budget", most_used=("epochs", "augment"))
@recipe_flags.takes_data(after="budget", most_used=("test", "classes", "size"))
def train(
    source: options.Sources,
    *,
    model: Annotated[
        str,
        flag(
            "--model",
            "auto: chosen for your images and this machine; "
            f"{', '.join(f'{name} ({spec.description})' for name, spec in NETWORKS.items())}; "
            f"without layers: {', '.join(PIXEL_MODELS)}.",
            rich_help_panel=options.MOST_USED,
            show_default=True,
        ),
    ] = "auto",
    budget: str | None = None,
    recipe: Path | None = None,
    name: str | None = None,
    repeats: int = 1,
    folds: int | None = None,
    plan: bool = False,
    track: Track = None,
    offline: options.Offline = False,
    runs: options.Runs = Path("runs"),
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
    **given: Any,
) -> None:
    """Train a classifier, evaluate it, and write its report.

    Ctrl-C stops the training where it is; the run is then evaluated and usable.

    Example: opsin train fashion-mnist --model cnn --epochs 5

    Example: opsin train holiday-photos --budget 10m --plan

    Example: opsin train holiday-photos --folds 5

    Most used:
        budget (TIME): Time that the training may take, such as 10m or 1h30m: a pretrained network
            is fine-tuned in it, or epochs and size of a network are chosen to fit.
        recipe: Take options from a TOML file, or a run's recipe.json; those given here win.
        name: Name of the run (default: source and model).
        plan: Train nothing: show the network, each automatic choice with its reason, and about how
            long the training would take.

    Options:
        repeats (N): Train N times, with consecutive seeds: mean and standard deviation.
        folds (K): Cross-validate: K runs, each tested on another K-th of the images.
    """
    if model != "auto":
        given["model"] = model
    if budget is not None:
        given["budget"] = budget
    from opsin.commands.train import train as workflow  # noqa: PLC0415  loads what training needs

    wanted = merge_options(read_options(recipe) if recipe else {}, given)
    several = repeats != 1 or folds is not None
    if plan:
        if several:
            raise typer.BadParameter(
                "expected no --repeats or --folds beside it: one training is planned.",
                param_hint="--plan",
            )
        from opsin.commands.train.plan import plan as planned  # noqa: PLC0415  trains

        found = planned(source, quiet=quiet, offline=offline, **wanted)
        unused = [flag for flag, value in (("--name", name), ("--track", track)) if value]
        if unused:
            note = f"{' and '.join(unused)}: only a training uses that, and this is a plan"
            for_people(quiet=quiet).note(note)
            found = found.model_copy(update={"notes": (*found.notes, note)})
        tell_plan(found, as_json=as_json)
        return
    if several:
        _train_several(source, repeats, folds, as_json=as_json, runs=runs, name=name, track=track,
                       quiet=quiet, offline=offline, **wanted)  # fmt: skip
        return
    run = workflow.train(
        source, runs=runs, name=name, track=track, quiet=quiet, offline=offline, **wanted
    )
    tell_run(run, as_json=as_json)


def _train_several(
    source: list[str], repeats: int, folds: int | None, *, as_json: bool, **given: Any
) -> None:
    from opsin.commands.repeats import train_folds, train_repeats  # noqa: PLC0415  0.3 s

    if folds is None:
        found = train_repeats(source, repeats=repeats, **given)
    elif repeats == 1:
        found = train_folds(source, folds=folds, **given)
    else:
        raise RecipeError(
            "repeats or folds", f"got {repeats} repeats and {folds} folds", "Give one of them."
        )
    tell_repeats(found, as_json=as_json)
