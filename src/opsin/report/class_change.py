"""What a change of classes came to, for the command line and the studio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, PlainSerializer


class ClassGroup(BaseModel, frozen=True):
    """Images of a class that are alike, the most typical first."""

    images: int
    names: tuple[str, ...]


class ClassChange(BaseModel, frozen=True):
    """The result of `change_classes`.

    Args:
        labels: The table, or ``None`` where groups are only shown.
        classes: The classes now.
        groups: The groups of the class that is split.
        sheet: Their contact sheet.
        command: What trains on the classes now.
    """

    labels: Annotated[Path | None, PlainSerializer(lambda path: path and str(path))]
    classes: tuple[str, ...]
    groups: tuple[ClassGroup, ...] = ()
    sheet: Annotated[Path | None, PlainSerializer(lambda path: path and str(path))] = None
    command: str = ""
