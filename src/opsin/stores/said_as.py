"""Files that stand for objects while they are worked on: errors speak of the objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opsin.core.errors import OpsinError


@contextmanager
def said_as(file: Path, address: object) -> Iterator[None]:
    """Let the errors of a block name an object in place of the file that stands for it.

    Args:
        file: The file, or the folder of several.
        address: What the user called it.

    Example:
        >>> with said_as(Path("/cache/1/a.csv"), "s3://bucket/a.csv"):
        ...     raise OpsinError("a table", "/cache/1/a.csv is none", "Check it.")
        Traceback (most recent call last):
        opsin.core.errors.OpsinError: expected a table; s3://bucket/a.csv is none. Check it.
    """
    try:
        yield
    except OpsinError as error:
        for part in ("expected", "received", "advice"):
            setattr(error, part, getattr(error, part).replace(str(file), str(address)))
        raise
