"""Checks of public functions' arguments against their annotations, before anything is done."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
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
# Libraries overflow beyond this.
_LARGEST: Final = 2**63


def by_current_names(options: Mapping[str, _Value]) -> dict[str, _Value]:
    """Options under their current names; an option present under both names is left alone."""
    return {
        name if FORMER_NAMES.get(name) in options else FORMER_NAMES.get(name, name): value
        for name, value in options.items()
    }


def read_former_names(content: Any) -> Any:
    """Rename former option names; a pydantic validator in mode "before"."""
    if not isinstance(content, dict):
        return content
    content = by_current_names(content)
    for name in ("disk_limit", "shuffle_buffer", "leaves"):
        content.pop(name, None)  # removed options that earlier runs' recipes still name
    return content


def checked(target: _T) -> _T:
    """Check a function's arguments, or those of a class's public methods, when it is called."""
    if isinstance(target, type):
        for name, value in list(vars(target).items()):
            is_init = name == "__init__" and not dataclasses.is_dataclass(target)
            if inspect.isfunction(value) and (is_init or not name.startswith("_")):
                setattr(target, name, checked(value))
        return target
    function, signature = target, inspect.signature(target)

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        hints, options = _hints_of(function), by_current_names(options)
        try:
            given = signature.bind(*args, **options).arguments
        except TypeError:
            given = {}  # the call says what is wrong, in Python's words
        for name, value in given.items():
            several = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            for item in value if several else (value,):
                if name in hints and not _fits(item, hints[name]):
                    words = _words(hints[name])
                    raise RecipeError(f"{name} must be {words}, not {reprlib.repr(item)}")
        return function(*args, **options)

    return typing.cast(_T, call)


@functools.cache
def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Each parameter's annotation, without that of ``**options``."""
    parameters = inspect.signature(function).parameters.values()
    # The return annotation may exist for type checkers alone.
    asked = {
        p.name: p.annotation
        for p in parameters
        if p.kind is not p.VAR_KEYWORD and p.annotation is not p.empty
    }
    holder = types.SimpleNamespace(__annotations__=asked)
    return typing.get_type_hints(holder, function.__globals__)


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation's origin and arguments."""
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is types.UnionType:
        origin = typing.Union
    if any(typing.get_origin(arg) is os.PathLike for arg in args):  # here a str is a path
        args = tuple(arg for arg in args if arg is not str)
    return origin, args


def _fits(value: Any, hint: Any) -> bool:
    origin, args = _parts(hint)
    if origin is typing.Union:
        return any(_fits(value, arg) for arg in args)
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
        return flat and all(_fits(item, args[0]) for item in value)
    if origin is collections.abc.Mapping:
        return isinstance(value, collections.abc.Mapping) and all(
            _is_text(key) and _fits(item, args[1]) for key, item in value.items()
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
    # Arrays, numbers and files are checked where they are read.
    protocol = getattr(origin, "_is_protocol", False)
    return isinstance(origin, type) and not protocol and origin not in (np.ndarray, typing.BinaryIO)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_path(value: object) -> bool:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return _is_text(value) and value != ""


def _is_whole(value: Any) -> bool:
    # Not `bool`, a subclass of `int`.
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
