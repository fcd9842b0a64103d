"""Turn docstrings and signatures into Markdown."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel

from opsin.data.run_images import Places

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):$", re.MULTILINE)
_TITLES: Final = {"Args": "Parameters", "Attributes": "Attributes", "Raises": "Raises"}
# Longer signatures get a line for each parameter.
_LINE: Final = 88


def split_sections(docstring: str) -> dict[str, str]:
    """Return a docstring's sections by their names; what comes first has the name ``""``."""
    first, *rest = _SECTION.split(inspect.cleandoc(docstring))
    found = {"": first.strip()}
    for name, text in zip(rest[::2], rest[1::2], strict=True):
        found[name] = textwrap.dedent(text.strip("\n")).rstrip()
    return found


def to_markdown(docstring: str, types: Mapping[str, str]) -> list[str]:
    """Return the lines of a docstring, with the types of its parameters."""
    lines: list[str] = []
    for name, text in split_sections(docstring).items():
        if name in _TITLES:
            lines += [f"**{_TITLES[name]}**", "", *_entries(text, types), ""]
        elif name == "Example":
            lines += [*_example(text), ""]
        elif name:
            lines += [f"**{name}** {code(' '.join(text.split()))}", ""]
        elif text:
            lines += [*code(text).splitlines(), ""]
    return lines


def code(text: str) -> str:
    """Return text with the backticks of Markdown."""
    return text.replace("``", "`")


def _entries(text: str, types: Mapping[str, str]) -> Iterator[str]:
    """Give a list item for each ``name: meaning``, whose further lines are indented."""
    for name, meaning in entries_of(text):
        kind = types.get(name.lstrip("*"), "")
        shown = f"`{name}`" + (f" (`{kind}`)" if kind else "")
        yield f"- {shown}: {meaning}"


def entries_of(section: str) -> Iterator[tuple[str, str]]:
    """Give the names in a section such as ``Args``, each with its meaning."""
    for entry in re.split(r"\n(?=\S)", section) if section else ():
        name, _, meaning = entry.partition(":")
        yield name, code(" ".join(meaning.split()))


def _example(text: str) -> list[str]:
    if ">>>" not in text:
        return [code(text)]
    before, prompt, session = text.partition(">>>")
    introduction = [code(before.strip()), ""] if before.strip() else []
    return [*introduction, "```pycon", *(prompt + session).splitlines(), "```"]


def signature_of(called: str, thing: Callable[..., Any]) -> tuple[list[str], dict[str, str]]:
    """Return the lines of a signature, and the type of each parameter."""
    if isinstance(thing, type) and issubclass(thing, BaseModel):
        thing.model_rebuild()  # until it is built, at its first use, it shows no parameters
    found = inspect.signature(thing)
    shown, types = [], {}
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.annotation is not inspect.Parameter.empty:
            types[parameter.name] = _type(parameter.annotation)
        shown.append(
            parameter.replace(annotation=inspect.Parameter.empty, default=_Shown.of(parameter))
        )
    result = (
        ""
        if found.return_annotation in (inspect.Signature.empty, "None", None)
        else (f" -> {_type(found.return_annotation)}")
    )
    inside = str(inspect.Signature(shown))[1:-1]
    if len(called) + len(inside) + len(result) + 2 <= _LINE:
        return [f"{called}({inside}){result}"], types
    parts = re.split(r", (?![^(\[{]*[)\]}])", inside)
    return [f"{called}(", *(f"    {part}," for part in parts), f"){result}"], types


class _Shown:
    """A default value as the code writes it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    @classmethod
    def of(cls, parameter: inspect.Parameter) -> Any:
        """Return how a parameter's default is shown."""
        value = parameter.default
        if value is inspect.Parameter.empty or "object at 0x" not in repr(value):
            return value if not dataclasses.is_dataclass(value) else cls("…")
        return cls(f"{type(value).__name__}()")


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\bPlaces\b", inspect.formatannotation(Places), text)
    return re.sub(r"\b(?:opsin|pathlib|collections|numpy|typing|os)\.(?:\w+\.)*(?=\w)", "", text)
