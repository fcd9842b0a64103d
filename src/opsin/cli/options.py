"""Options that several verbs share, described once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from opsin.recipe import DataRecipe

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
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
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


def listed(text: str | None) -> list[str] | None:
    """Split ``a,b,c``; an empty part is no name."""
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]


def renamed(text: str | None) -> dict[str, str] | None:
    """Read ``path=file,label=kind``.

    Raises:
        typer.BadParameter: A part is no pair of names.
    """
    parts = listed(text)
    if parts is None:
        return None
    pairs = [part.partition("=") for part in parts]
    if not all(ours and theirs for ours, _, theirs in pairs):
        raise typer.BadParameter(f"expected pairs such as path=file,label=kind; received {text!r}.",
                                 param_hint="--columns")  # fmt: skip
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def numbers(text: str | None, option: str) -> list[int] | None:
    """Split ``128,64`` into whole numbers.

    Raises:
        typer.BadParameter: A part is no whole number.
    """
    parts = listed(text)
    if parts is None:
        return None
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"expected whole numbers such as 128,64; received {text!r}.",
                                 param_hint=option)  # fmt: skip
    return [int(part) for part in parts]


def sides(text: str | None) -> tuple[int, int] | None:
    """Read ``64`` or ``48x64`` (height, width).

    Raises:
        typer.BadParameter: It is neither.
    """
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"expected 64 or 48x64 (height x width); received {text!r}.",
                                 param_hint="--size")  # fmt: skip
    return int(parts[0]), int(parts[-1])


# How each field of `DataRecipe` is given on the command line: type, reader of its text, metavar.
_DATA: dict[str, tuple[Any, Callable[[Any], Any] | None, str | None]] = {
    "test": (str, None, "SOURCE"),
    "classes": (str, listed, "A,B,C"),
    "size": (str, sides, "N or HxW"),
    "channels": (int, None, None),
    "resize": (str, None, None),
    "columns": (str, renamed, "OURS=THEIRS,…"),
    "follow_links": (bool, None, None),
    "group_by": (str, None, "REGEX"),
    "near_duplicates": (str, None, None),
    "assignment": (str, None, None),
    "fold": (str, None, "I/K"),
    "val_fraction": (float, None, None),
    "test_fraction": (float, None, None),
    "split_seed": (int, None, None),
    "max_unreadable": (float, None, None),
    "disk_limit": (float, None, "GB"),
}
#: Those that say how a source is read, and nothing about its split.
READING = ("classes", "columns", "follow_links", "max_unreadable", "disk_limit")


def takes_data(*fields: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the options for fields of `DataRecipe` (default: all of them).

    The verb takes them as ``data_options``, a dictionary of those that were given.
    """
    names = fields or tuple(_DATA)

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def call(**given: Any) -> None:
            data_options = {}
            for name in names:
                value, read = given.pop(name), _DATA[name][1]
                if value is not None:
                    data_options[name] = read(value) if read else value
            verb(**given, data_options=data_options)

        own = inspect.signature(verb, eval_str=True).parameters
        added = {
            name: inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[_DATA[name][0] | None, _option(name)],
            )
            for name in names
        }
        parameters: list[inspect.Parameter] = []
        for name, parameter in own.items():
            parameters += added.values() if name == "data_options" else [parameter]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def _option(name: str) -> Any:
    flag = f"--{name.replace('_', '-')}"
    kind, _, metavar = _DATA[name]
    more = {"metavar": metavar} if metavar else {}
    return of(DataRecipe, name, f"{flag}/--no-{flag[2:]}" if kind is bool else flag, **more)
