"""Recipe fields as flags and from recipe files, for the verbs that train."""

from __future__ import annotations

import functools
import inspect
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from opsin.classical.classical_recipe import TRAIN_OPTIONS
from opsin.cli.options import MOST_USED, Verb, parser_of
from opsin.core.errors import RecipeError
from opsin.core.recipe import DATA_OPTIONS, SOURCE, flat_options, override, refuse_unknown
from opsin.core.recipe_options import RecipeOption
from opsin.core.stored_json import JsonObject
from opsin.trackers import trackers

_TRACKERS: Final = ", ".join(f"{tracker.name} ({tracker.title})" for tracker in trackers().values())
Track = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        show_default=False,
        help=f"Show the run in {_TRACKERS} as well; a tracker that fails costs a warning, never "
        "the run. Where to is said by its own environment variables.",
    ),
]

#: Options of model and training.
TRAINING: Final = tuple(name for name in TRAIN_OPTIONS if name not in DATA_OPTIONS)
#: Options for reading a source, without those for its split.
READING: Final = tuple(n for n in DATA_OPTIONS if TRAIN_OPTIONS[n].group == SOURCE and n != "test")


def takes(*fields: str, after: str, most_used: Sequence[str] = ()) -> Callable[[Verb], Verb]:
    """Give a verb options for recipe fields, after one of its parameters; it gets those set."""

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def call(**values: Any) -> None:
            left_out = {name for name in fields if values[name] is None}
            verb(**{name: value for name, value in values.items() if name not in left_out})

        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(verb, eval_str=True).parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD:
                parameters.append(parameter)
            if name == after:
                parameters += [
                    _parameter(TRAIN_OPTIONS[field], first=field in most_used) for field in fields
                ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def _parameter(option: RecipeOption, *, first: bool) -> inspect.Parameter:
    flag = f"{option.flag}/--no-{option.flag[2:]}" if option.kind is bool else option.flag
    declared = typer.Option(
        flag,
        help=option.help,
        show_default=False,
        rich_help_panel=MOST_USED if first else option.group,
        metavar=option.metavar,
        parser=parser_of(option.read) if option.is_structured else None,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[option.kind | None, declared],
    )


def merge_options(file: Mapping[str, object], flags: Mapping[str, object]) -> dict[str, Any]:
    """Override a recipe file's options by flags, as `override` does."""
    file = {key: value for key, value in file.items() if key != "sources"}
    refuse_unknown(file, ("model", "budget", *TRAIN_OPTIONS))
    return override(file, flags)


def read_options(path: Path) -> JsonObject:
    """Read options from a recipe file: TOML, or JSON such as a run's ``recipe.json``."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RecipeError(f"The recipe {path} cannot be read ({error})") from error
    return flat_options(content)
