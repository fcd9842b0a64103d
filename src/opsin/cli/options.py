"""Options that several verbs share, described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from opsin.recipe import DataRecipe

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="fashion-mnist, digits, a folder with a sub-folder for each class, an .npz file, or "
        "an IDX file of images.",
        show_default=False,
    ),
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A run directory, or a classifier.onnx.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Runs = Annotated[
    Path, typer.Option("--runs", envvar="OPSIN_RUNS", help="Folder of the run directories.")
]


def of(recipe: type[BaseModel], field: str, *names: str, **more: Any) -> Any:
    """Return the option for a field of the recipe, with the field's own description."""
    description = recipe.model_fields[field].description
    return typer.Option(
        *(names or (f"--{field.replace('_', '-')}",)), help=description, show_default=False, **more
    )


Classes = Annotated[str | None, of(DataRecipe, "classes", metavar="A,B,C")]
Size = Annotated[str | None, of(DataRecipe, "size", metavar="N or HxW")]
Channels = Annotated[int | None, of(DataRecipe, "channels")]
Resize = Annotated[str | None, of(DataRecipe, "resize")]
ValFraction = Annotated[float | None, of(DataRecipe, "val_fraction")]
TestFraction = Annotated[float | None, of(DataRecipe, "test_fraction")]
SplitSeed = Annotated[int | None, of(DataRecipe, "split_seed")]
MaxUnreadable = Annotated[float | None, of(DataRecipe, "max_unreadable")]


def listed(text: str | None) -> list[str] | None:
    """Split ``a,b,c``; an empty part is no name."""
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]


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
