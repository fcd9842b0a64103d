"""Errors have three parts, and the tree in the docstring is the tree there is."""

from __future__ import annotations

import inspect
import pickle
import re

from opsin.core import errors


def test_the_tree_that_is_drawn_is_the_tree_there_is() -> None:
    drawn: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            above[depth] = found[2]
            drawn[found[2]] = above.get(depth - 1, "Exception")
    there = {
        name: cls.__mro__[1].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.OpsinError)
    }
    assert drawn == there


def test_a_missing_extra_says_what_to_install() -> None:
    assert "pip install 'opsin[train]'" in str(errors.MissingExtraError("training", "train"))


def test_every_error_passes_to_another_process() -> None:
    made: dict[type[errors.OpsinError], errors.OpsinError] = {
        errors.MissingExtraError: errors.MissingExtraError("training", "train"),
        errors.MovedError: errors.MovedError("runs/boots", ["photos/1.jpg"]),
    }
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.OpsinError):
            error = made.get(kind) or kind("a folder", "boots.txt is a file", "Give another.")
            error.told = True
            passed = pickle.loads(pickle.dumps(error))
            assert type(passed) is kind
            assert (str(passed), vars(passed)) == (str(error), vars(error))
