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
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np

from opsin.core.errors import RecipeError

#: Options by their former names, which are still read.
FORMER_NAMES: Final = {"rate": "learning_rate", "light": "brightness"}
_T = TypeVar("_T", bound=Callable[..., Any])
# A check, and what it expects in words.
_Rule = tuple[Callable[[Any], bool], str]
# Libraries overflow beyond this.
_LARGEST: Final = 2**63
_FLOATS: Final = float, np.floating
_REST, _MORE = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


def by_current_names(options: Any) -> Any:
    """Options under their current names; one present under both names is left alone."""
    if not isinstance(options, dict):
        return options
    renamed = {old: new for old, new in FORMER_NAMES.items() if new not in options}
    return {renamed.get(name, name): value for name, value in options.items()}


def checked(target: _T) -> _T:
    """Check a function's arguments, or those of a class's public methods, when it is called."""
    if isinstance(target, type):
        for name, value in list(vars(target).items()):
            is_init = name == "__init__" and not dataclasses.is_dataclass(target)
            if inspect.isfunction(value) and (is_init or not name.startswith("_")):
                setattr(target, name, checked(value))
        return target
    function, signature = target, inspect.signature(target)
    named = {p.kind: p.name for p in signature.parameters.values()}
    rest, more = (named.get(k, "") for k in (_REST, _MORE))

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        rules, options = _rules_of(function), by_current_names(options)
        try:
            arguments = signature.bind(*args, **options).arguments
        except TypeError:
            arguments = {}  # the call says what is wrong, in Python's words
        for name, value in (*arguments.items(), *arguments.get(more, {}).items()):
            fits, words = rules.get(name, _ANYTHING)
            for item in value if name == rest else (value,):
                if not fits(item):
                    raise RecipeError(f"{name} must be {words}, not {reprlib.repr(item)}")
        return function(*args, **options)

    return typing.cast(_T, call)


@functools.cache
def _rules_of(function: Callable[..., Any]) -> dict[str, _Rule]:
    """The rule of each annotated parameter, and of each option of ``**options: Unpack[…]``."""
    parameters = inspect.signature(function).parameters.values()
    # The return annotation may exist for type checkers alone.
    annotations = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    holder = types.SimpleNamespace(__annotations__=annotations)
    rules, hints = dict[str, _Rule](), typing.get_type_hints(holder, function.__globals__)
    for parameter in parameters:
        name, hint = parameter.name, hints.get(parameter.name, object)
        if parameter.kind is not _MORE:
            rules[name] = _rule(hint)
        elif typing.get_origin(hint) is typing.Unpack:
            known = typing.get_type_hints(*typing.get_args(hint))
            rules |= {option: _rule(one) for option, one in known.items()}
            rules[name] = set(known).issuperset, f"any of {', '.join(known)}"
    return rules


def _rule(hint: Any) -> _Rule:
    """Whether a value fits an annotation, and the annotation in words."""
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if any(typing.get_origin(arg) is os.PathLike for arg in args):  # here a str is a path
            args = tuple(arg for arg in args if arg is not str)
        rules = [_rule(arg) for arg in args]
        words = " or ".join(dict.fromkeys(words for _, words in rules))
        return (lambda value: any(fits(value) for fits, _ in rules)), words
    if origin is typing.Literal:
        words = f"one of {', '.join(map(str, args))}"
        return (lambda value: isinstance(value, str) and value in args), words
    if origin is tuple and ... not in args:
        words = f"{len(args)} values"
        return (lambda value: isinstance(value, tuple | list) and len(value) == len(args)), words
    if origin in (collections.abc.Sequence, list, tuple):
        fits_each, words = _rule(args[0])
        return (
            lambda value: _is_list(value) and all(map(fits_each, value))
        ), f"a list, each {words}"
    if origin is collections.abc.Mapping:
        fits_value, words = _rule(args[1])
        return (
            lambda value: (
                isinstance(value, collections.abc.Mapping)
                and all(_is_text(key) and fits_value(item) for key, item in value.items())
            )
        ), f"a dictionary of names and {words}"
    if origin in _SIMPLE:
        return _SIMPLE[origin]
    # Arrays, numbers and files are checked where they are read.
    protocol = getattr(origin, "_is_protocol", False) or origin in (np.ndarray, typing.BinaryIO)
    if protocol or not isinstance(origin, type):
        return _ANYTHING
    return (lambda value: isinstance(value, origin)), f"a {origin.__name__}"


def _is_list(value: Any) -> bool:
    if isinstance(value, str | bytes | collections.abc.Mapping | os.PathLike):
        return False
    indexed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return indexed and (not isinstance(value, np.ndarray) or value.ndim == 1)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_path(value: object) -> bool:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    return _is_text(text) and text != ""


def _is_whole(value: Any) -> bool:
    # Not `bool`, a subclass of `int`.
    whole = isinstance(value, int | np.integer) and value is not True and value is not False
    return whole and abs(int(value)) < _LARGEST


_ANYTHING: Final[_Rule] = (lambda _: True), "anything"
_SIMPLE: Final[dict[Any, _Rule]] = {
    bool: (lambda value: isinstance(value, bool | np.bool_), "True or False"),
    float: (lambda v: _is_whole(v) or (isinstance(v, _FLOATS) and math.isfinite(v)), "a number"),
    int: (_is_whole, "a whole number"), str: (_is_text, "a text"),
    os.PathLike: (_is_path, "a path"), types.NoneType: (lambda value: value is None, "None"),
    collections.abc.Callable: (callable, "a function"),
}  # fmt: skip
