"""Options of verbs that listen, made of the settings of their servers."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from opsin.cli.options import add_parameters, flag
from opsin.cli.output import print_json
from opsin.core.errors import RecipeError
from opsin.core.events import Watcher
from opsin.web.settings import Setting, settings_of
from opsin.web.tokens import TOKEN_VARIABLE, token_from_file

_Verb = Callable[..., None]
_TOKEN_FILE: Final = inspect.Parameter(
    "token_file",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Path | None,
        flag(
            "--token-file",
            "File with the token that clients must show; made if there is none. The variable "
            "OPSIN_TOKEN does as well.",
        ),
    ],
)


def takes_settings(kind: type, *, after: str) -> Callable[[_Verb], _Verb]:
    """Give a verb an option for each setting of a server that has a flag, and for its token.

    The verb gets the fields of ``kind`` as keyword arguments.

    Args:
        kind: The dataclass of the settings.
        after: The verb's own parameter that they stand behind.
    """
    known = settings_of(kind)
    flagged = {name: each for name, each in known.items() if each.flag}

    def decorate(verb: _Verb) -> _Verb:
        @functools.wraps(verb)
        def call(**given: Any) -> None:
            settings = {name: _value(each, given.pop(name)) for name, each in flagged.items()}
            settings["token"] = _token(given.pop("token_file"))
            verb(**given, **settings)

        added = [
            _TOKEN_FILE if name == "token" else _parameter(each)
            for name, each in known.items()
            if name == "token" or each.flag
        ]
        add_parameters(call, verb, added, after)
        return call

    return decorate


def _parameter(setting: Setting) -> inspect.Parameter:
    """Return a setting as a parameter that Typer makes a flag of."""
    kind, default = setting.kind, setting.default
    limited = setting.unit == 1 and kind is int
    if setting.unit != 1:
        kind, default = float, default / setting.unit
    elif kind not in (bool, int, float, str):
        kind, default = list[str] | None, None
    declared = typer.Option(
        setting.flag,
        help=setting.help,
        metavar=setting.metavar,
        show_default=default is not None and kind is not bool,
        min=setting.least if limited else None,
        max=setting.most if limited else None,
    )
    if default is None:
        kind |= None
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, declared],
    )


def _value(setting: Setting, given: Any) -> Any:
    """Return the field's value for an option's."""
    if setting.unit != 1:
        return in_units(setting.flag, given, setting.unit)
    return tuple(given or ()) if isinstance(setting.default, tuple) else given


def in_units(flag: str, value: float, unit: int) -> int:
    """Return a number of millions, or of another unit, as a whole number.

    Raises:
        RecipeError: It is not above 0, or far too large.

    Example:
        >>> in_units("--max-megabytes", 0.5, 1_000_000)
        500000
    """
    if not 1e-6 <= value <= 1e6:  # of what is not a number, neither holds
        raise RecipeError(f"{flag} above 0", f"got {value:g}", f"Say {flag} 10.")
    return round(value * unit)


def _token(file: Path | None) -> str | None:
    """Return the token of a file, or of the environment, or none."""
    return token_from_file(file) if file else os.environ.get(TOKEN_VARIABLE) or None


class Address(Watcher):
    """Prints the address for scripts, once the server answers.

    Args:
        name: The fact that says it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def fact(self, name: str, text: str) -> None:
        """Print the address when it comes by."""
        if name == self._name:
            print_json({"url": text})
