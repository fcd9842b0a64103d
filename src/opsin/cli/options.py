"""Options that several verbs share, described once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from opsin.classical.classical_recipe import MODELS
from opsin.core.recipe import DataRecipe, ModelRecipe, TrainingRecipe

_SOURCES = typer.Argument(
    metavar="SOURCE...",
    help="A name (fashion-mnist, cifar10, digits …), a folder with a sub-folder for each "
    "class, a table (.csv, .jsonl) of paths and labels, an archive (.zip, .tar) of these, an "
    ".npz file or an IDX file; several are joined.",
    show_default=False,
)
Sources = Annotated[list[str], _SOURCES]
#: Sources that may be left out, since something else can say which they are.
AnySources = Annotated[list[str] | None, _SOURCES]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A run directory, or a classifier.onnx.", show_default=False
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="Pictures with labels to do it with (default: those of its run).",
        show_default=False,
    ),
]
Moved = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="Where the run's images are now, if they were moved; they must be the same.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Examples = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        help="Which images are drawn as examples, at random; another number draws others.",
    ),
]
Tta = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Average the answers to small variations of each image, if these helped on the "
        "validation images of the training.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress and no notes.")]
Runs = Annotated[
    Path, typer.Option("--runs", envvar="OPSIN_RUNS", help="Folder of the run directories.")
]


def of(recipe: type[BaseModel], field: str, *names: str, **more: Any) -> Any:
    """Return the option for a field of the recipe, with the field's own description."""
    description = recipe.model_fields[field].description
    return typer.Option(
        *(names or (f"--{field.replace('_', '-')}",)), help=description, show_default=False, **more
    )


def listed(text: str) -> list[str]:
    """Split ``a,b,c``; an empty part is no name."""
    return [part.strip() for part in text.split(",") if part.strip()]


def renamed(text: str) -> dict[str, str]:
    """Read ``path=file,label=kind``.

    Raises:
        typer.BadParameter: A part is no pair of names.
    """
    parts = listed(text)
    pairs = [part.partition("=") for part in parts]
    if not all(ours and theirs for ours, _, theirs in pairs):
        raise typer.BadParameter(f"expected pairs such as path=file,label=kind; received {text!r}.",
                                 param_hint="--columns")  # fmt: skip
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def numbers(text: str) -> list[int]:
    """Split ``128,64`` into whole numbers.

    Raises:
        typer.BadParameter: A part is no whole number.
    """
    parts = listed(text)
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"expected whole numbers such as 128,64; received {text!r}.",
                                 param_hint="--hidden")  # fmt: skip
    return [int(part) for part in parts]


def sides(text: str) -> tuple[int, int]:
    """Read ``64`` or ``48x64`` (height, width).

    Raises:
        typer.BadParameter: It is neither.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"expected 64 or 48x64 (height x width); received {text!r}.",
                                 param_hint="--size")  # fmt: skip
    return int(parts[0]), int(parts[-1])


@dataclass(frozen=True)
class _Given:
    """How a field of the recipe is given on the command line.

    Args:
        kind: Type of what is typed.
        read: Turns it into the field's value.
        metavar: What the help shows for it.
    """

    kind: Any = str
    read: Callable[[str], Any] | None = None
    metavar: str | None = None


_DATA = {
    "test": _Given(metavar="SOURCE"),
    "classes": _Given(read=listed, metavar="A,B,C"),
    "size": _Given(read=sides, metavar="N or HxW"),
    "channels": _Given(int),
    "resize": _Given(),
    "columns": _Given(read=renamed, metavar="OURS=THEIRS,…"),
    "labels": _Given(metavar="CSV"),
    "follow_links": _Given(bool),
    "outside": _Given(bool),
    "group_by": _Given(metavar="REGEX"),
    "near_duplicates": _Given(),
    "assignment": _Given(),
    "fold": _Given(metavar="I/K"),
    "val_fraction": _Given(float),
    "test_fraction": _Given(float),
    "split_by": _Given(),
    "split_seed": _Given(int),
    "max_unreadable": _Given(float),
    "disk_limit": _Given(float, metavar="GB"),
}
_MODEL = {
    "hidden": _Given(read=numbers, metavar="N,N,N"),
    "depth": _Given(int),
    "activation": _Given(),
    "dropout": _Given(float),
}
_TRAINING = {
    "epochs": _Given(int),
    "batch_size": _Given(int),
    "optimizer": _Given(),
    "rate": _Given(float),
    "schedule": _Given(),
    "momentum": _Given(float),
    "weight_decay": _Given(float),
    "label_smoothing": _Given(float),
    "balance": _Given(),
    "augment": _Given(),
    "flip": _Given(bool),
    "shift": _Given(int, metavar="PIXELS"),
    "zoom": _Given(float),
    "rotate": _Given(float, metavar="DEGREES"),
    "light": _Given(float),
    "erase": _Given(float),
    "patience": _Given(int, metavar="EPOCHS"),
    "seed": _Given(int),
    "device": _Given(),
    "precision": _Given(),
    "checkpoint_every": _Given(float, metavar="SECONDS"),
}
_CLASSICAL = {
    "c": _Given(float),
    "trees": _Given(int),
    "leaves": _Given(int),
    "neighbours": _Given(int),
    "components": _Given(int),
    "side": _Given(int, metavar="PIXELS"),
    "pictures": _Given(int, metavar="N"),
}
#: Those that say how a source is read, and nothing about its split.
READING = (
    "classes", "columns", "labels", "follow_links", "outside", "max_unreadable", "disk_limit",
)  # fmt: skip
#: Those that say how pictures are varied while training.
VARYING = ("augment", "flip", "shift", "zoom", "rotate", "light", "erase")

_Verb = Callable[..., None]


def takes_data(*fields: str) -> Callable[[_Verb], _Verb]:
    """Give a verb the options for fields of `DataRecipe` (default: all of them).

    The verb takes them as ``data_options``, a dictionary of those that were given.
    """
    return _takes("data_options", {name: _DATA[name] for name in fields or _DATA})


def takes_training(*fields: str) -> Callable[[_Verb], _Verb]:
    """Give a verb the options for fields of the model and the training (default: all).

    The verb takes them as ``training_options``, a dictionary of those that were given.
    """
    known = _MODEL | _CLASSICAL | _TRAINING
    return _takes("training_options", {name: known[name] for name in fields or known})


def _takes(bundle: str, wanted: dict[str, _Given]) -> Callable[[_Verb], _Verb]:
    def decorate(verb: _Verb) -> _Verb:
        @functools.wraps(verb)
        def call(**given: Any) -> None:
            options = {}
            for name, how in wanted.items():
                value = given.pop(name)
                if value is not None:
                    options[name] = how.read(value) if how.read else value
            verb(**given, **{bundle: options})

        own = inspect.signature(verb, eval_str=True).parameters
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[how.kind | None, _option(name, how)],
            )
            for name, how in wanted.items()
        ]
        parameters: list[inspect.Parameter] = []
        for name, parameter in own.items():
            parameters += added if name == bundle else [parameter]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def _option(field: str, how: _Given) -> Any:
    flag = f"--{field.replace('_', '-')}"
    recipes = (DataRecipe, ModelRecipe, TrainingRecipe, *MODELS.values())
    recipe = next(recipe for recipe in recipes if field in recipe.model_fields)
    more = {"metavar": how.metavar} if how.metavar else {}
    return of(recipe, field, f"{flag}/--no-{flag[2:]}" if how.kind is bool else flag, **more)
