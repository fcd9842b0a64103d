"""Settings of servers: one declaration gives a field its default, limits, help and flag."""

from __future__ import annotations

import dataclasses
import types
from dataclasses import dataclass
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from opsin.core.errors import RecipeError

_KEY: Final = "setting"


@dataclass(frozen=True)
class Setting:
    """What is known of a setting.

    Args:
        name: The field's name.
        kind: Its type, without ``None``.
        default: Its default.
        help: What it means.
        flag: Its name on the command line; empty: it has none there.
        metavar: What the help shows for its value, where the type does not say it.
        least: Its smallest value.
        most: Its largest value.
        unit: How many of the field's units one of the flag's is, such as a million bytes.
    """

    name: str
    kind: Any
    default: Any
    help: str
    flag: str = ""
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    unit: int = 1

    def check(self, value: object) -> None:
        """Check a value's type and limits.

        Raises:
            RecipeError: It is no number of the right type, or beyond the limits.
        """
        if self.least is None or (value is None and self.default is None):
            return
        kinds = int if self.kind is int else int | float
        most = float("inf") if self.most is None else self.most
        if isinstance(value, kinds) and self.least <= value <= most and value != float("inf"):
            return
        what = f"{self.name} to be a {'whole ' * (self.kind is int)}number"
        limits = (
            f"of at least {self.least:,}"
            if self.most is None
            else f"between {self.least:,} and {self.most:,}"
        )
        raise RecipeError(f"{what} {limits}", f"got {value}", "Choose a value there.")


def setting(default: Any, help: str, *, repr: bool = True, **facts: Any) -> Any:  # noqa: A002
    """Declare a field of a dataclass of settings.

    Args:
        default: Its default.
        help: What it means.
        repr: Whether its value may be shown.
        **facts: ``flag``, ``metavar``, ``least``, ``most`` or ``unit`` of `Setting`.

    Example:
        >>> @dataclass
        ... class Limits:
        ...     queue: int = setting(256, "Images that may wait.", flag="--queue", least=1)
        >>> settings_of(Limits)["queue"].flag, Limits().queue
        ('--queue', 256)
    """
    return dataclasses.field(default=default, repr=repr, metadata={_KEY: {"help": help, **facts}})


def settings_of(kind: type) -> dict[str, Setting]:
    """Return the settings of a dataclass by name: the fields that `setting` declared."""
    hints = get_type_hints(kind)
    return {
        field.name: Setting(
            field.name, _without_none(hints[field.name]), field.default, **field.metadata[_KEY]
        )
        for field in dataclasses.fields(kind)
        if _KEY in field.metadata
    }


def check_settings(settings: Any) -> None:
    """Check the types and limits of all settings of an instance.

    Raises:
        RecipeError: One is out of its limits.
    """
    for name, each in settings_of(type(settings)).items():
        each.check(getattr(settings, name))


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(each for each in get_args(kind) if each is not type(None))
    return kind
