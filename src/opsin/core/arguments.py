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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from opsin.core.errors import RecipeError

_T = TypeVar("_T", bound=Callable[..., Any])
# Beyond what the libraries below take for a number.
_LARGEST: Final = 2**63
_NUL: Final = "\0"


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
        kinds, positions, rest = _kinds_of(function)
        given = itertools.chain(
            zip(itertools.chain(positions, itertools.repeat(rest)), args, strict=False),
            options.items(),
        )
        for name, value in given:
            kind = kinds.get(name, _ANYTHING)
            if not kind.fits(value):
                raise _refused(function, name, kind, value)
        return function(*args, **options)

    return typing.cast(_T, call)


def _refused(function: Callable[..., Any], name: str, kind: _Kind, value: object) -> RecipeError:
    called = function.__qualname__.removesuffix(".__init__")
    return RecipeError(
        f"{kind.words} as {name}", f"got {reprlib.repr(value)}", f"See help({called})."
    )


@dataclass(frozen=True)
class _Kind:
    """What may be given: a test, and the words for it."""

    fits: Callable[[Any], bool]
    words: str


_ANYTHING: Final = _Kind(lambda _: True, "anything")


@functools.cache
def _kinds_of(function: Callable[..., Any]) -> tuple[dict[str, _Kind], list[str], str]:
    """Return each parameter's kind, those that may be given by position, and ``*args``."""
    # Those of the answer may not be there: what is imported for type checkers only is not there.
    asked = {key: value for key, value in function.__annotations__.items() if key != "return"}
    hints = typing.get_type_hints(
        types.SimpleNamespace(__annotations__=asked), function.__globals__
    )
    kinds: dict[str, _Kind] = {}
    positions, rest = [], ""
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD and name in hints:
            kinds[name] = _kind_of(hints[name])
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = name
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positions.append(name)
    return kinds, positions, rest


def _kind_of(hint: Any) -> _Kind:
    """Turn an annotation into a test."""
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if any(typing.get_origin(each) is os.PathLike for each in args):
            args = tuple(each for each in args if each is not str)
        kinds = [_kind_of(each) for each in args]
        return _Kind(
            lambda value: any(kind.fits(value) for kind in kinds),
            " or ".join(dict.fromkeys(kind.words for kind in kinds)),
        )
    if origin is typing.Literal:
        return _Kind(
            lambda value: isinstance(value, str) and value in args,
            f"one of {', '.join(map(str, args))}",
        )
    if origin is tuple and ... not in args:
        return _row_of([_kind_of(each) for each in args])
    if origin in (collections.abc.Sequence, list, tuple):
        return _list_of(_kind_of(args[0]))
    if origin is collections.abc.Mapping:
        kind = _kind_of(args[1])
        return _Kind(
            lambda value: (
                isinstance(value, origin)
                and all(_is_text(key) and kind.fits(each) for key, each in value.items())
            ),
            f"a dictionary of names and {kind.words}",
        )
    if origin in _SIMPLE:
        return _SIMPLE[origin]
    if (
        not isinstance(origin, type)
        or getattr(origin, "_is_protocol", False)
        or origin in _LEFT_TO_OTHERS
    ):
        return _ANYTHING
    return _Kind(lambda value: isinstance(value, origin), f"a {origin.__name__}")


def _list_of(kind: _Kind) -> _Kind:
    def fits(value: Any) -> bool:
        if isinstance(value, str | bytes | collections.abc.Mapping | os.PathLike):
            return False
        if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
            return False
        return value.ndim == 1 if isinstance(value, np.ndarray) else True

    return _Kind(
        lambda value: fits(value) and all(map(kind.fits, value)), f"a list, each {kind.words}"
    )


def _row_of(kinds: list[_Kind]) -> _Kind:
    def fits(value: Any) -> bool:
        if not isinstance(value, tuple | list) or len(value) != len(kinds):
            return False
        return all(kind.fits(each) for kind, each in zip(kinds, value, strict=True))

    return _Kind(fits, f"{len(kinds)} values")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _NUL not in value


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


_SIMPLE: Final[dict[Any, _Kind]] = {
    bool: _Kind(lambda value: isinstance(value, bool | np.bool_), "True or False"),
    int: _Kind(_is_whole, "a whole number"),
    float: _Kind(_is_number, "a number"),
    str: _Kind(_is_text, "a text"),
    os.PathLike: _Kind(_is_path, "a path"),
    types.NoneType: _Kind(lambda value: value is None, "None"),
    collections.abc.Callable: _Kind(callable, "a function"),
}
# What is read elsewhere: shapes, numbers and files decide there.
_LEFT_TO_OTHERS: Final = (np.ndarray, typing.BinaryIO)
