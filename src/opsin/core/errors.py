"""Every error that Opsin raises on purpose.

The command line prints its line and exits with status 1; only a bug shows a traceback.
"""

from __future__ import annotations

import copyreg
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Self


class OpsinError(Exception):
    """An error that the user can act on.

    Args:
        message: What is wrong, naming the value, and what is expected: a sentence without its
            full stop.
        advice: What to do, as a sentence; may be empty.

    Example:
        >>> print(OpsinError("boots.txt is a file", "Give the folder that it lies in."))
        boots.txt is a file. Give the folder that it lies in.
    """

    #: Whether another process has told the user; ``None`` if there is no other.
    told: bool | None = None

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message, advice)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}. {self.advice}" if self.advice else self.message

    def replace(self, old: str, new: str) -> Self:
        """Replace text in the message and the advice; return the error."""
        self.message = self.message.replace(old, new)
        self.advice = self.advice.replace(old, new)
        return self

    def __reduce__(self) -> tuple[object, ...]:
        # By default, unpickling calls the class with `args`, which not every class accepts.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class SourceError(OpsinError):
    """Images and labels that cannot be found or understood."""


class DownloadError(SourceError):
    """A download that failed, or whose content is not what was published."""


class MovedError(SourceError):
    """A run's images that are no longer where they were.

    Args:
        run: The run directory.
        gone: Where the images were.
    """

    def __init__(self, run: str | PathLike[str], gone: Sequence[str]) -> None:
        super().__init__(
            f"The images of {fspath(run)} are gone: there is nothing at {', '.join(gone)} any more",
            "Say where they are now: --data NEW (in Python, data=NEW).",
        )
        self.run = fspath(run)
        self.gone = tuple(gone)


class ImageError(SourceError):
    """Bytes that are not a readable image."""


class InputError(SourceError, ValueError):
    """Images or labels that `opsin.sklearn` cannot fit or predict: scikit-learn's `ValueError`."""


class RecipeError(OpsinError):
    """An option, or a combination of options, that cannot work."""


class RunError(OpsinError):
    """A run directory that is missing, incomplete or unusable."""


class ModelFileError(OpsinError):
    """A file that is not an Opsin classifier."""


class ParityError(OpsinError):
    """An exported file whose answers differ from its network's."""


class StorageError(OpsinError):
    """The disk refused a write."""


class SandboxError(OpsinError):
    """A file whose opening took too long, took too much memory, or crashed the process."""


class MissingExtraError(OpsinError):
    """An optional part of Opsin that is not installed.

    Args:
        need: What was asked for, for example "training".
        extra: The extra that brings it, for example "train".
    """

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(
            f"The optional part for {need} is not installed",
            f"Install it: pip install 'opsin[{extra}]'.",
        )
