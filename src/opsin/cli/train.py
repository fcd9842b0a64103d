"""`opsin train`: from a source to a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from opsin.cli import options
from opsin.cli.options import of
from opsin.cli.output import console, print_json
from opsin.recipe import (
    MODEL_OPTIONS,
    TRAINING_OPTIONS,
    ModelRecipe,
    TrainingRecipe,
    merge_options,
    read_options,
)
from opsin.report.terminal import class_table


@options.takes_data()
def train(
    source: options.Sources,
    *,
    model: Annotated[str | None, of(ModelRecipe, "name", "--model")] = None,
    epochs: Annotated[int | None, of(TrainingRecipe, "epochs")] = None,
    batch_size: Annotated[int | None, of(TrainingRecipe, "batch_size")] = None,
    rate: Annotated[float | None, of(TrainingRecipe, "rate")] = None,
    schedule: Annotated[str | None, of(TrainingRecipe, "schedule")] = None,
    optimizer: Annotated[str | None, of(TrainingRecipe, "optimizer")] = None,
    momentum: Annotated[float | None, of(TrainingRecipe, "momentum")] = None,
    weight_decay: Annotated[float | None, of(TrainingRecipe, "weight_decay")] = None,
    label_smoothing: Annotated[float | None, of(TrainingRecipe, "label_smoothing")] = None,
    class_weights: Annotated[str | None, of(TrainingRecipe, "class_weights")] = None,
    flip: Annotated[bool | None, of(TrainingRecipe, "flip", "--flip/--no-flip")] = None,
    shift: Annotated[int | None, of(TrainingRecipe, "shift", metavar="PIXELS")] = None,
    patience: Annotated[int | None, of(TrainingRecipe, "patience", metavar="EPOCHS")] = None,
    hidden: Annotated[str | None, of(ModelRecipe, "hidden", metavar="N,N,N")] = None,
    depth: Annotated[int | None, of(ModelRecipe, "depth")] = None,
    activation: Annotated[str | None, of(ModelRecipe, "activation")] = None,
    dropout: Annotated[float | None, of(ModelRecipe, "dropout")] = None,
    seed: Annotated[int | None, of(TrainingRecipe, "seed")] = None,
    device: Annotated[str | None, of(TrainingRecipe, "device")] = None,
    data_options: dict[str, Any],
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            help="Options from a TOML file, or a run's recipe.json; those given here win.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run (default: source and model).")
    ] = None,
    runs: options.Runs = Path("runs"),
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a classifier, evaluate the file that comes out, and write its report.

    Ctrl-C ends the epoch where it is: the run is then evaluated and usable.

    Example: opsin train fashion-mnist --model cnn --epochs 5
    """  # fmt: skip
    # Every option above that is a field of the recipe bears the field's name.
    fields = ("model", *MODEL_OPTIONS, *TRAINING_OPTIONS)
    given = {key: value for key, value in locals().items() if key in fields} | data_options
    given["hidden"] = options.numbers(hidden, "--hidden")
    from opsin.workflow import train as workflow  # noqa: PLC0415  loads what training needs

    wanted = merge_options(
        read_options(recipe) if recipe else {},
        {key: value for key, value in given.items() if value is not None},
    )
    run = workflow.train(source, runs=runs, name=name, quiet=quiet, **wanted)
    report = run.report
    if as_json:
        print_json({"run": str(run.path), **report})
    else:
        screen = console()
        screen.print()
        screen.print(class_table(run.figures))
        screen.print(f"\nLook      {run.directory.page}", markup=False, soft_wrap=True)
        screen.print(f"Try       opsin predict {run.path} PICTURE", markup=False, soft_wrap=True)
    if report["training"]["stopped"]:
        raise typer.Exit(130)
