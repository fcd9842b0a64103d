"""The options of a recipe: what flags, forms and pages need of its fields."""

from __future__ import annotations

import re
import types
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from opsin.core.recipe import RecipeModel

#: What stands for true and false in a form.
YES, NO = "yes", "no"
_WHOLE_NUMBERS: Final = "whole numbers with commas between them, such as 64,32"
_SIDES: Final = "sides in pixels, such as 28 or 28x32 (height x width)"


class RecipeOption:
    """A field of a recipe as people set it: by a flag, in a form, in a file."""

    def __init__(self, name: str, field: FieldInfo, group: str) -> None:
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        self.name = name
        self.field = field
        #: The heading that it stands under.
        self.group = str(extra.get("group", group))
        self.flag = str(extra.get("flag", f"--{name.replace('_', '-')}"))
        #: Its name in a form.
        self.label = name.replace("_", " ").capitalize()
        self.help = field.description or ""
        #: What the help shows for its value, where the type does not say it.
        self.metavar = str(extra["metavar"]) if "metavar" in extra else None
        kind: Any = field.annotation
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(each for each in get_args(kind) if each is not type(None))
        # The type without ``None`` and without limits.
        self._inner: Any = get_args(kind)[0] if get_origin(kind) is Annotated else kind

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a closed set, as text; none where there is no such set."""
        if self._inner is bool:
            return (YES, NO)
        closed = get_origin(self._inner) is Literal
        return tuple(map(str, get_args(self._inner))) if closed else ()

    @property
    def kind(self) -> type[bool] | type[int] | type[float] | type[str]:
        """The plain type that is typed for it."""
        kind = self._inner
        if get_origin(kind) is Literal:
            kind = type(get_args(kind)[0])
        return kind if kind in (bool, int, float) else str

    @property
    def is_structured(self) -> bool:
        """Whether its value has several parts, which `read` separates."""
        return get_origin(self._inner) in (tuple, dict)

    def read(self, text: str) -> Any:
        """Return the value that a text stands for, its limits unchecked; or raise `ValueError`."""
        if not self.is_structured:
            return text == YES if self.kind is bool else self.kind(text)
        if get_origin(self._inner) is dict:
            return split_pairs(text)
        inner = get_args(self._inner)
        if inner == (str, ...):
            return split_names(text)
        if inner[1] is ...:
            parts: list[str] = list(split_names(text))
            expected = _WHOLE_NUMBERS
        else:
            parts = re.split("[x×,]", text.lower())
            expected = _SIDES
        if not all(re.fullmatch("[0-9]+", part) for part in parts) or (
            inner[1] is not ... and len(parts) > 2
        ):
            raise ValueError(f"expected {expected}; received {text!r}.")
        numbers = tuple(map(int, parts))
        return numbers if inner[1] is ... else (numbers[0], numbers[-1])

    def write(self, value: Any) -> str:
        """Return a value as text: what `read`, and a form, take for it."""
        if isinstance(value, bool):
            return YES if value else NO
        if isinstance(value, dict):
            return ",".join(f"{ours}={theirs}" for ours, theirs in value.items())
        if isinstance(value, list | tuple):
            return ("," if ... in get_args(self._inner) else "x").join(map(str, value))
        return str(value)

    def argument(self, text: str) -> str:
        """Return the word of the command line that gives it a value."""
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
        words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
        return f"{kind} {' and '.join(f'{words[each]} {at:,}' for each, at in bounds.items())}"


def options_of(*recipes: type[RecipeModel]) -> dict[str, RecipeOption]:
    """Return the options of parts of a recipe by name; the first of a name counts."""
    found: dict[str, RecipeOption] = {}
    for recipe in recipes:
        for name, field in recipe.model_fields.items():
            if name not in ("name", "sources"):
                found.setdefault(name, RecipeOption(name, field, recipe.group))
    return found


def split_names(text: str) -> tuple[str, ...]:
    """Split ``a,b,c``; an empty part is no name."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def split_pairs(text: str) -> dict[str, str]:
    """Read ``path=file,label=kind``, or raise `ValueError`."""
    pairs = [part.partition("=") for part in split_names(text)]
    if not all(ours and theirs for ours, _, theirs in pairs):
        raise ValueError(f"expected pairs such as path=file,label=kind; received {text!r}.")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
