"""Recipe fields as options of the command line and of forms."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from opsin.core.stored_json import first_fault

if TYPE_CHECKING:
    from opsin.core.recipe import RecipeModel

#: True and false in a form.
YES, NO = "yes", "no"


class RecipeOption:
    """A recipe field as an option: a flag, a form's field, a file's key."""

    def __init__(self, name: str, field: FieldInfo, group: str) -> None:
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        self.name = name
        self.field = field
        #: Its heading.
        self.group = str(extra.get("group", group))
        self.flag = str(extra.get("flag", f"--{name.replace('_', '-')}"))
        #: Its name in a form.
        self.label = name.replace("_", " ").capitalize()
        self.help = field.description or ""
        #: The help's word for its value; by default from the type.
        self.metavar = str(extra["metavar"]) if "metavar" in extra else None
        kind: Any = field.annotation
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(arg for arg in get_args(kind) if arg is not type(None))
        # The type without ``None`` and without limits.
        self._inner: Any = get_args(kind)[0] if get_origin(kind) is Annotated else kind

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values as text; empty for an open set."""
        if self._inner is bool:
            return (YES, NO)
        closed = get_origin(self._inner) is Literal
        return tuple(map(str, get_args(self._inner))) if closed else ()

    @property
    def kind(self) -> type[bool] | type[int] | type[float] | type[str]:
        """The plain type of its text."""
        kind = self._inner
        if get_origin(kind) is Literal:
            kind = type(get_args(kind)[0])
        return kind if kind in (bool, int, float) else str

    @property
    def is_structured(self) -> bool:
        """Whether its value has several parts, which `read` separates."""
        return get_origin(self._inner) in (tuple, dict)

    def read(self, text: str) -> Any:
        """Parse a text without checking limits, or raise `ValueError`."""
        if not self.is_structured:
            return text == YES if self.kind is bool else self.kind(text)
        if get_origin(self._inner) is dict:
            return split_pairs(text)
        inner = get_args(self._inner)
        if inner == (str, ...):
            return split_names(text)
        many = inner[1] is ...
        parts = list(split_names(text)) if many else re.split("[x×,]", text.lower())
        if not all(re.fullmatch("[0-9]+", part) for part in parts) or (len(parts) > 2 and not many):
            form = "numbers such as 64,32" if many else "sides in pixels such as 28 or 28x32"
            raise ValueError(f"{text!r} is not {form}")
        numbers = tuple(map(int, parts))
        return numbers if many else (numbers[0], numbers[-1])

    def write(self, value: Any) -> str:
        """A value as text, for `read` and forms."""
        if isinstance(value, bool):
            return YES if value else NO
        if isinstance(value, dict):
            return ",".join(f"{ours}={theirs}" for ours, theirs in value.items())
        if isinstance(value, list | tuple):
            return ("," if ... in get_args(self._inner) else "x").join(map(str, value))
        return str(value)

    def argument(self, text: str) -> str:
        """The command-line argument that sets it."""
        if self.kind is bool:
            return self.flag if text == YES else f"--no-{self.flag[2:]}"
        return f"{self.flag}={text}"

    def fault(self, text: str) -> str:
        """What is wrong with a text; empty if it is valid."""
        if self.choices:
            return "" if text in self.choices else not_one_of(self.choices, text)
        limited: Any = Annotated[self.field.annotation, self.field]
        try:
            TypeAdapter(limited).validate_python(self.read(text))
        except ValidationError as error:
            return first_fault(error)[1]
        except ValueError as error:
            number = "a whole number" if self.kind is int else "a number"
            return str(error) if self.is_structured else f"must be {number}, not {text!r:.80}"
        return ""


def not_one_of(choices: Iterable[str], text: str) -> str:
    """What is wrong with a text that is none of the choices."""
    return f"must be one of {', '.join(choices)}, not {text!r:.80}"


def options_of(*recipes: type[RecipeModel]) -> dict[str, RecipeOption]:
    """The options of parts of a recipe by name; the first of a name wins."""
    options: dict[str, RecipeOption] = {}
    for recipe in recipes:
        for name, field in recipe.model_fields.items():
            if name not in ("name", "sources"):
                options.setdefault(name, RecipeOption(name, field, recipe.group))
    return options


def split_names(text: str) -> tuple[str, ...]:
    """The parts of ``a,b,c``, without empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def split_pairs(text: str) -> dict[str, str]:
    """Read ``path=file,label=kind``, or raise `ValueError`."""
    pairs = [part.partition("=") for part in split_names(text)]
    if not all(ours and theirs for ours, _, theirs in pairs):
        raise ValueError(f"{text!r} is not pairs such as path=file,label=kind")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
