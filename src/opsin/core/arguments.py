"""Arguments of the public functions, checked against their annotations before anything is done."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import itertools
import math
import os
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import numpy as np

from opsin.core.errors import RecipeError

#: Options by their former names, which are still read.
FORMER_NAMES: Final = {"rate": "learning_rate", "light": "brightness"}
_Value = TypeVar("_Value")
_T = TypeVar("_T", bound=Callable[..., Any])
# Beyond what libraries take for a number.
_LARGEST: Final = 2**63


def by_current_names(options: Mapping[str, _Value]) -> dict[str, _Value]:
    """Options, those with a former name under the one that they have now.

    Where both are there, the former one stays, for whoever knows the options to refuse it.
    """
    return {
        name if FORMER_NAMES.get(name) in options else FORMER_NAMES.get(name, name): value
        for name, value in options.items()
    }


def checked(target: _T) -> _T:
    """Check a function's arguments, or those of a class's public methods, when it is called."""
    if isinstance(target, type):
        for name, value in list(vars(target).items()):
            own = name == "__init__" and not dataclasses.is_dataclass(target)
            if inspect.isfunction(value) and (own or not name.startswith("_")):
                setattr(target, name, checked(value))
        return target
    function = target

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        hints, positions, rest = _hints_of(function)
        options = by_current_names(options)
        names = itertools.chain(positions, itertools.repeat(rest))
        for name, value in itertools.chain(zip(names, args, strict=False), options.items()):
            if name in hints and not _fits(value, hints[name]):
                called = function.__qualname__.removesuffix(".__init__")
                raise RecipeError(
                    f"{_words(hints[name])} as {name}",
                    f"got {reprlib.repr(value)}",
                    f"See help({called}).",
                )
        return function(*args, **options)

    return typing.cast(_T, call)


@functools.cache
def _hints_of(function: Callable[..., Any]) -> tuple[dict[str, Any], list[str], str]:
    """Return each parameter's annotation, those that may be given by position, and ``*args``."""
    # Those of the answer may not be there: what is imported for type checkers only is not there.
    asked = {key: value for key, value in function.__annotations__.items() if key != "return"}
    hints = typing.get_type_hints(
        types.SimpleNamespace(__annotations__=asked), function.__globals__
    )
    parameters = inspect.signature(function).parameters.values()
    for each in parameters:
        if each.kind is each.VAR_KEYWORD:
            hints.pop(each.name, None)
    positions = [each.name for each in parameters
                 if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]  # fmt: skip
    rest = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "")
    return hints, positions, rest


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return an annotation's origin and arguments; a path's texts are paths."""
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is types.UnionType:
        origin = typing.Union
    if origin is typing.Union and any(typing.get_origin(each) is os.PathLike for each in args):
        args = tuple(each for each in args if each is not str)
    return origin, args


def _fits(value: Any, hint: Any) -> bool:
    origin, args = _parts(hint)
    if origin is typing.Union:
        return any(_fits(value, each) for each in args)
    if origin is typing.Literal:
        return isinstance(value, str) and value in args
    if origin is tuple and ... not in args:
        together = isinstance(value, tuple | list) and len(value) == len(args)
        return together and all(map(_fits, value, args))
    if origin in _LISTS:
        if isinstance(value, str | bytes | collections.abc.Mapping | os.PathLike):
            return False
        if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
            return False
        flat = not isinstance(value, np.ndarray) or value.ndim == 1
        return flat and all(_fits(each, args[0]) for each in value)
    if origin is collections.abc.Mapping:
        return isinstance(value, collections.abc.Mapping) and all(
            _is_text(key) and _fits(each, args[1]) for key, each in value.items()
        )
    if origin in _SIMPLE:
        return _SIMPLE[origin][0](value)
    return not _is_checked_class(origin) or isinstance(value, origin)


def _words(hint: Any) -> str:
    origin, args = _parts(hint)
    if origin is typing.Union:
        return " or ".join(dict.fromkeys(map(_words, args)))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is tuple and ... not in args:
        return f"{len(args)} values"
    if origin in _LISTS:
        return f"a list, each {_words(args[0])}"
    if origin is collections.abc.Mapping:
        return f"a dictionary of names and {_words(args[1])}"
    if origin in _SIMPLE:
        return _SIMPLE[origin][1]
    return f"a {origin.__name__}" if _is_checked_class(origin) else "anything"


def _is_checked_class(origin: Any) -> bool:
    """Tell a class from what is read elsewhere: there, shapes, numbers and files decide."""
    protocol = getattr(origin, "_is_protocol", False)
    return isinstance(origin, type) and not protocol and origin not in (np.ndarray, typing.BinaryIO)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_path(value: object) -> bool:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return _is_text(value) and value != ""


def _is_whole(value: Any) -> bool:
    # Not `bool`, which calls itself a whole number too.
    whole = isinstance(value, int | np.integer) and value is not True and value is not False
    return whole and abs(int(value)) < _LARGEST


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float | np.floating) and math.isfinite(value))


_LISTS: Final = (collections.abc.Sequence, list, tuple)
_SIMPLE: Final[dict[Any, tuple[Callable[[Any], bool], str]]] = {
    bool: (lambda value: isinstance(value, bool | np.bool_), "True or False"),
    int: (_is_whole, "a whole number"),
    float: (_is_number, "a number"),
    str: (_is_text, "a text"),
    os.PathLike: (_is_path, "a path"),
    types.NoneType: (lambda value: value is None, "None"),
    collections.abc.Callable: (callable, "a function"),
}
