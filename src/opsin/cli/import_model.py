"""`opsin import`: bring in a classifier that another program saved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from opsin.cli import options, recipe_flags
from opsin.cli.output import print_json, say
from opsin.cli.train import show_run
from opsin.core.recipe import DATA_OPTIONS


@recipe_flags.takes(
    *(name for name in DATA_OPTIONS if name not in ("size", "channels")),
    after="runs",
    most_used=("classes",),
)
@recipe_flags.takes("prepare", after="file", most_used=("prepare",))
def import_model(
    file: Path,
    *,
    data: list[str] | None = None,
    classes_from: Path | None = None,
    size: Annotated[int | None, typer.Option(min=4, max=1024)] = None,
    output: str | None = None,
    architecture: Literal["mlp"] | None = None,
    graph: Path | None = None,
    licence: str | None = None,
    name: str | None = None,
    runs: options.Runs = Path("runs"),
    quiet: bool = False,
    as_json: bool = False,
    **fields: Any,
) -> None:
    """Bring in a classifier that another program saved, as a run.

    Nothing in the file is run, and its answers stay what they were. With labelled images it is
    measured on the same test images as a run that is trained on them.

    Example: opsin import tutorial.keras --data fashion-mnist --prepare 0..1

    Example: opsin import forest.skops --data digits --prepare 0..1

    Example: opsin import model.onnx --classes-from labels.txt --prepare imagenet

    Most used:
        data (SOURCE): Images with labels to measure it on, as opsin train takes them: with them it
            gets a report.
        classes_from (FOLDER or FILE): Names of the classes: a folder's sub-folders, or a file with
            one a line, or JSON (default: as the file says, or labels.txt beside it, or the images
            of --data).

    Options:
        file (FILE): A file of Keras (.keras, .h5), an ONNX file of any maker, an estimator of
            scikit-learn (.skops), or weights alone (.safetensors, a checkpoint of PyTorch).
        size (N): Height and width of its images, where the file leaves them open.
        output (NAME): Which of its outputs answers, where there are several.
        architecture (--as): What weights alone are of; mlp: dense layers with ReLU between them.
        graph (ONNX): A graph that weights alone are put into, by their names.
        licence (NAME): Under which it is published (default: as a file beside it says, or unknown).
        name: What the run directory is called (default: as the file).
    """
    from opsin.commands.import_model import import_model as workflow  # noqa: PLC0415  loads onnx

    run = workflow(
        file,
        data=data or (),
        classes_from=classes_from,
        size=size,
        output=output,
        architecture=architecture,
        graph=graph,
        licence=licence,
        name=name,
        runs=runs,
        quiet=quiet,
        **fields,
    )
    if run.directory.report.is_file():
        show_run(run, as_json=as_json)
    elif as_json:
        record = run.imported().model_dump(mode="json", exclude_unset=True)
        print_json({"run": str(run.path)} | record)
    else:
        say(f"\nTry       opsin predict {run.path} IMAGE")
