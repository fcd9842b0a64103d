"""The options of a recipe: what flags, forms and pages need of its fields."""

from __future__ import annotations

import re
import types
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from opsin.core.recipe import RecipeModel

#: What stands for true and false in a form.
YES, NO = "yes", "no"
_WHOLE = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class RecipeOption:
    """A field of a recipe as people set it: by a flag, in a form, in a file.

    Args:
        name: The field's name.
        field: Its type, default and help.
        group: The heading that it stands under.

    Example:
        >>> from opsin.core.recipe import DataRecipe
        >>> option = options_of(DataRecipe)["val_fraction"]
        >>> option.flag, option.group, option.kind, option.expected
        ('--val-fraction', 'Split', <class 'float'>, 'a number above 0 and below 1')
    """

    name: str
    field: FieldInfo
    group: str

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        own = _extra(self.field).get("flag")
        return str(own) if own else f"--{self.name.replace('_', '-')}"

    @property
    def label(self) -> str:
        """Its name in a form."""
        return self.name.replace("_", " ").capitalize()

    @property
    def help(self) -> str:
        """What it means, in one sentence or a few."""
        return self.field.description or ""

    @property
    def metavar(self) -> str | None:
        """What the help shows for its value, where the type does not say it."""
        word = _extra(self.field).get("metavar")
        return None if word is None else str(word)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a closed set, as text; none where there is no such set."""
        kind = self._inner
        if kind is bool:
            return (YES, NO)
        return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()

    @property
    def kind(self) -> type[bool] | type[int] | type[float] | type[str]:
        """The plain type that is typed for it."""
        kind = self._inner
        if get_origin(kind) is Literal:
            kind = type(get_args(kind)[0])
        return kind if kind in (bool, int, float) else str

    @property
    def _inner(self) -> Any:
        """The type without ``None`` and without limits."""
        kind = self.field.annotation
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(each for each in get_args(kind) if each is not type(None))
        return get_args(kind)[0] if get_origin(kind) is Annotated else kind

    @property
    def is_structured(self) -> bool:
        """Whether its value has several parts, which `read` separates."""
        return get_origin(self._inner) in (tuple, dict)

    def read(self, text: str) -> Any:
        """Return the value that a text stands for; limits are not checked.

        Raises:
            ValueError: The text has another form; the message says which is expected.

        Example:
            >>> from opsin.core.recipe import DataRecipe
            >>> options_of(DataRecipe)["size"].read("48x64")
            (48, 64)
            >>> options_of(DataRecipe)["columns"].read("path=file,label=kind")
            {'path': 'file', 'label': 'kind'}
        """
        if not self.is_structured:
            return text == YES if self.kind is bool else self.kind(text)
        if get_origin(self._inner) is dict:
            return split_pairs(text)
        inner = get_args(self._inner)
        if inner == (str, ...):
            return split_names(text)
        return _whole_numbers(text) if inner[1] is ... else _sides(text)

    def write(self, value: Any) -> str:
        """Return a value as text: what `read`, and a form, take for it.

        Example:
            >>> from opsin.core.recipe import DataRecipe
            >>> options_of(DataRecipe)["size"].write([48, 64])
            '48x64'
        """
        if isinstance(value, bool):
            return YES if value else NO
        if isinstance(value, dict):
            return ",".join(f"{ours}={theirs}" for ours, theirs in value.items())
        if isinstance(value, list | tuple):
            inner = get_args(self._inner)
            return ("," if ... in inner else "x").join(map(str, value))
        return str(value)

    def argument(self, text: str) -> str:
        """Return the word of the command line that gives it a value.

        Example:
            >>> from opsin.core.recipe import DataRecipe, TrainingRecipe
            >>> flip = options_of(TrainingRecipe)["flip"]
            >>> flip.argument("no"), options_of(DataRecipe)["size"].argument("48x64")
            ('--no-flip', '--size=48x64')
        """
        if self.kind is bool:
            return self.flag if text == YES else f"--no-{self.flag[2:]}"
        return f"{self.flag}={text}"

    def accepts(self, text: str) -> bool:
        """Tell whether a text, of a flag or of a form, becomes a value within the limits."""
        if self.choices:
            return text in self.choices
        limited: Any = Annotated[self.field.annotation, self.field]
        try:
            TypeAdapter(limited).validate_python(self.read(text))
        except ValueError:
            return False
        return True

    @property
    def expected(self) -> str:
        """What is accepted, as an error says it."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.is_structured:
            inner = get_args(self._inner)
            return "names" if str in inner else _WHOLE_NUMBERS if ... in inner else _SIDES
        if self.field.examples:
            return f"text such as {self.field.examples[0]}"
        if self.kind is str:
            return "text"
        bounds = {
            word: getattr(each, word)
            for each in self.field.metadata
            for word in ("ge", "gt", "le", "lt")
            if getattr(each, word, None) is not None
        }
        kind = "a whole number" if self.kind is int else "a number"
        if set(bounds) == {"ge", "le"}:
            return f"{kind} from {bounds['ge']:,} to {bounds['le']:,}"
        said = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
        return f"{kind} {' and '.join(f'{said[word]} {bound:,}' for word, bound in bounds.items())}"


_WHOLE_NUMBERS: Final = "whole numbers with commas between them, such as 64,32"
_SIDES: Final = "sides in pixels, such as 28 or 28x32 (height x width)"


def _extra(field: FieldInfo) -> dict[str, object]:
    extra = field.json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def options_of(*recipes: type[RecipeModel]) -> dict[str, RecipeOption]:
    """Return the options of parts of a recipe by name; the first of a name counts.

    What names the model or the sources is no option: each verb takes these in its own way.

    Example:
        >>> from opsin.core.recipe import ModelRecipe
        >>> list(options_of(ModelRecipe))
        ['hidden', 'depth', 'activation', 'dropout']
    """
    found: dict[str, RecipeOption] = {}
    for recipe in recipes:
        for name, field in recipe.model_fields.items():
            if name not in ("name", "sources"):
                group = str(_extra(field).get("group", recipe.group))
                found.setdefault(name, RecipeOption(name, field, group))
    return found


def split_names(text: str) -> tuple[str, ...]:
    """Split ``a,b,c``; an empty part is no name.

    Example:
        >>> split_names("cat, dog,")
        ('cat', 'dog')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def split_pairs(text: str) -> dict[str, str]:
    """Read ``path=file,label=kind``.

    Raises:
        ValueError: A part is no pair of names.
    """
    pairs = [part.partition("=") for part in split_names(text)]
    if not all(ours and theirs for ours, _, theirs in pairs):
        raise ValueError(f"expected pairs such as path=file,label=kind; received {text!r}.")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _whole_numbers(text: str) -> tuple[int, ...]:
    parts = split_names(text)
    if not all(map(_WHOLE.fullmatch, parts)):
        raise ValueError(f"expected {_WHOLE_NUMBERS}; received {text!r}.")
    return tuple(map(int, parts))


def _sides(text: str) -> tuple[int, int]:
    parts = re.split("[x×,]", text.lower())
    if len(parts) > 2 or not all(map(_WHOLE.fullmatch, parts)):
        raise ValueError(f"expected {_SIDES}; received {text!r}.")
    return int(parts[0]), int(parts[-1])
