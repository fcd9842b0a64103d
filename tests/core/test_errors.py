"""Errors pass to another process whole."""

from __future__ import annotations

import inspect
import pickle

from opsin.core import errors


def test_every_error_passes_to_another_process() -> None:
    made: dict[type[errors.OpsinError], errors.OpsinError] = {
        errors.MissingExtraError: errors.MissingExtraError("training", "train"),
        errors.MovedError: errors.MovedError("runs/boots", ["photos/1.jpg"]),
    }
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.OpsinError):
            error = made.get(kind) or kind("boots.txt is a file", "Give a folder.")
            passed = pickle.loads(pickle.dumps(error))
            assert type(passed) is kind
            assert (str(passed), vars(passed)) == (str(error), vars(error))
