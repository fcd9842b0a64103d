"""What a run's files of arrays hold, checked before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import RunError

_PARTS: Final = ("train", "val", "test")
# Probabilities are rounded.
_SLACK: Final = 1e-3


class MissingArrayError(RunError, KeyError):
    """A file of a run that lacks an array; who knows better what that means catches the key."""


class RunArrays(dict[str, NDArray[Any]]):
    """Arrays of a run's file by their names; one that is not there is a `RunError`."""

    def __init__(self, file: Path, arrays: dict[str, NDArray[Any]]) -> None:
        super().__init__(arrays)
        self._file = file

    def __missing__(self, name: str) -> NDArray[Any]:
        raise MissingArrayError(f"{name} in {self._file}", "the file lacks it", "Train again.")


def check_split(arrays: dict[str, NDArray[Any]]) -> None:
    """See that the parts are rows of the run's images."""
    count = None
    for name in ("digests", "source_digests"):
        if (digests := arrays.get(name)) is not None:
            if digests.dtype != np.uint8 or digests.ndim != 2:
                raise ValueError(f"{name} are none")
            if count not in (None, len(digests)):
                raise ValueError(f"{name} are not as many as the images")
            count = len(digests)
    for part in _PARTS:
        if part in arrays:
            _check_numbers(arrays[part], part, count)


def check_predictions(arrays: dict[str, NDArray[Any]]) -> None:
    """See that each part has a row, a label and probabilities for each of its images."""
    for part in (*_PARTS[1:], "out_of_fold"):
        rows, labels, answers = (
            arrays.get(f"{part}_{what}") for what in ("rows", "labels", "probabilities")
        )
        lengths = {len(each) for each in (rows, labels, answers) if each is not None and each.ndim}
        if len(lengths) > 1:
            raise ValueError(f"lengths of {part} differ")
        if rows is not None:
            _check_numbers(rows, f"{part}_rows", None)
        classes = None
        if answers is not None:
            if answers.dtype.kind != "f" or answers.ndim != 2:
                raise ValueError(f"{part}_probabilities are none")
            if not ((answers >= -_SLACK) & (answers <= 1 + _SLACK)).all():
                raise ValueError(f"{part}_probabilities are not from 0 to 1")
            classes = answers.shape[1]
        if labels is not None:
            _check_numbers(labels, f"{part}_labels", classes)


def _check_numbers(array: NDArray[Any], name: str, count: int | None) -> None:
    """See that an array is a list of places, below ``count`` where that is known."""
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ValueError(f"{name} are no whole numbers")
    if len(array) and (array.min() < 0 or array.max() >= (1 << 62 if count is None else count)):
        raise ValueError(f"{name} lead outside")
