"""What people ask of a training, as arguments."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from opsin.classical.classical_recipe import MODELS, Fitting
from opsin.core.errors import RecipeError
from opsin.core.pace import seconds_of
from opsin.core.recipe import DataRecipe, ModelRecipe, TrainingRecipe
from opsin.core.storage import write_json

#: The models by name, and how they are told.
MODEL_WORDS: Final[dict[str, str]] = {
    "auto": "auto: chosen by the pictures and this machine",
    "mlp": "mlp: dense layers",
    "cnn": "cnn: six convolutions",
    "resnet": "resnet: small, residual",
    **{name: f"{name}: without layers" for name in MODELS},
}
#: What training pictures show, and what comes of it.
AUGMENT_WORDS: Final[dict[str, str]] = {
    "": "as suits the pictures",
    "photos": "photos: also mirrored and moved",
    "documents": "documents: a little askew, in any light",
    "symbols": "letters, digits, signs: never mirrored",
    "none": "leave them as they are",
}
#: Those in front of the others.
FRONT: Final = ("model", "epochs", "budget", "augment")
_VARIED: Final = ("flip", "shift", "zoom", "rotate", "light", "erase")
#: Of the data part those that are about preparing and splitting; the others are the set's own.
PREPARED: Final = (
    "size", "channels", "resize", "val_fraction", "test_fraction", "split_seed",
    "near_duplicates", "assignment", "fold", "group_by",
)  # fmt: skip
# What belonged to an older choice goes with it when a run's settings are taken over.
_GO_WITH: Final[dict[str, tuple[str, ...]]] = {
    "augment": _VARIED,
    "optimizer": ("rate", "momentum"),
    "schedule": ("patience",),
    "depth": ("hidden",),
    "hidden": ("depth",),
    "budget": ("epochs", "hidden", "depth"),
}
_YES, _NO = "yes", "no"
# What is no single number, and what it looks like.
_LOOKS: Final = {
    "hidden": "whole numbers with commas between them, such as 64,32",
    "size": "sides from 4 to 1,024 pixels, such as 28 or 28x32",
    "fold": "a fold such as 2/5",
}


@dataclass(frozen=True)
class FormField:
    """An option of a training as a form asks for it.

    Args:
        name: The recipe's field.
        text: What it means, as the recipe says.
        choices: The values that there are; none where anything may be typed.
    """

    name: str
    text: str
    choices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name as people read it.

        Example:
            >>> FormField("batch_size", "Pictures a step.").label
            'Batch size'
        """
        return self.name.replace("_", " ").capitalize()


def fields_for(model: str) -> dict[str, list[FormField]]:
    """Return what can be asked of a model beside what stands in front, by heading.

    Args:
        model: One of `MODEL_WORDS`.

    Example:
        >>> [field.name for field in fields_for("forest")["Model"]]
        ['trees', 'leaves', 'side', 'pictures']
    """
    data = [_field(DataRecipe, name) for name in PREPARED]
    if model in MODELS:
        own = [_field(MODELS[model], name) for name in MODELS[model].model_fields if name != "name"]
        fitting = [_field(Fitting, "seed")]
        return {"Model": own, "Fitting": fitting, "Pictures and parts": data}
    network = [_field(ModelRecipe, name) for name in ModelRecipe.model_fields if name != "name"]
    training = [
        _field(TrainingRecipe, name)
        for name in TrainingRecipe.model_fields
        if name not in (*FRONT, *_VARIED)
    ]
    return {
        "Network": network,
        "Training": training,
        "How training pictures are varied": [_field(TrainingRecipe, name) for name in _VARIED],
        "Pictures and parts": data,
    }


def _field(recipe: type[BaseModel], name: str) -> FormField:
    info = recipe.model_fields[name]
    return FormField(name, info.description or "", _choices(info.annotation))


def _choices(kind: Any) -> tuple[str, ...]:
    """Return the values of a closed set, as text."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _choices(get_args(kind)[0])
    if kind is bool:
        return (_YES, _NO)
    if origin is Literal:
        return tuple(map(str, get_args(kind)))
    if origin in (Union, types.UnionType):
        inner = [each for each in get_args(kind) if each is not type(None)]
        return _choices(inner[0]) if len(inner) == 1 else ()
    return ()


def fault(name: str, text: str, model: str) -> str:
    """Return what is wrong with the text of a field, or nothing; an empty one is left open.

    Args:
        name: The recipe's field, or ``budget``.
        text: What somebody typed.
        model: One of `MODEL_WORDS`.

    Example:
        >>> fault("epochs", "0", "cnn")
        'Epochs: expected a whole number from 1 to 10,000, got 0'
        >>> fault("budget", "1h30m", "cnn"), fault("hidden", "64,32", "mlp")
        ('', '')
    """
    text = text.strip()
    expected = ""
    if text and name == "budget":
        try:
            seconds_of(text)
        except RecipeError as error:
            expected = error.expected
    elif text and (info := _info(name, model)) is not None and not _fits(name, text, info):
        expected = _LOOKS.get(name) or _allowed(info)
    label = "Time" if name == "budget" else FormField(name, "").label
    return f"{label}: expected {expected}, got {text:.40}" if expected else ""


def _info(name: str, model: str) -> FieldInfo | None:
    """Return the description of a model's option."""
    parts = (MODELS[model], Fitting) if model in MODELS else (ModelRecipe, TrainingRecipe)
    return next(
        (p.model_fields[name] for p in (*parts, DataRecipe) if name in p.model_fields), None
    )


def _fits(name: str, text: str, info: FieldInfo) -> bool:
    """Tell whether a text becomes a value that the recipe takes."""
    choices = _choices(info.annotation)
    if choices:
        return text in choices
    value: Any = text
    if name in ("hidden", "size"):
        value = tuple(re.split("[,x]" if name == "size" else ",", text.lower()))
        value *= 2 if name == "size" and len(value) == 1 else 1
    try:
        annotated: Any = Annotated[info.annotation, info]
        TypeAdapter(annotated).validate_python(value)
    except ValidationError:
        return False
    return True


def _allowed(info: FieldInfo) -> str:
    """Say what numbers a field takes: kind and range.

    Example:
        >>> _allowed(TrainingRecipe.model_fields["rate"])
        'a number above 0 and at most 100'
    """
    bounds = {
        word: getattr(each, word)
        for each in info.metadata
        for word in ("ge", "gt", "le", "lt")
        if getattr(each, word, None) is not None
    }
    whole = int in (get_args(info.annotation) or (info.annotation,))
    kind = "a whole number" if whole else "a number"
    if set(bounds) == {"ge", "le"}:
        return f"{kind} from {bounds['ge']:,} to {bounds['le']:,}"
    said = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    return f"{kind} {' and '.join(f'{said[word]} {bound:,}' for word, bound in bounds.items())}"


def flags(values: Mapping[str, str]) -> list[str]:
    """Return options as the command line takes them; what is empty is left to be decided.

    Example:
        >>> flags({"model": "cnn", "epochs": "3", "rate": "", "flip": "no"})
        ['--model=cnn', '--epochs=3', '--no-flip']
    """
    found = []
    for name, value in values.items():
        word, text = name.replace("_", "-"), value.strip()
        if name == "flip":
            found += {_YES: [f"--{word}"], _NO: [f"--no-{word}"]}.get(text, [])
        elif name == "size" and text:
            found.append(f"--size={text.lower().replace(',', 'x')}")
        elif text:
            found.append(f"--{word}={text}")
    return found


def argv(
    pictures: Sequence[str],
    values: Mapping[str, str],
    *,
    runs: Path,
    recipe: Path | None = None,
    labels: Path | None = None,
    name: str = "",
    plan: bool = False,
) -> list[str]:
    """Return the command line of a training, or of its plan.

    Args:
        pictures: What says which pictures are meant: options, ``--``, sources.
        values: Options by name, as text.
        runs: Folder of the run directories.
        recipe: A file of options that those in ``values`` win over.
        labels: A table of corrections.
        name: What the run is to be called.
        plan: Train nothing.

    Example:
        >>> argv(["--", "digits"], {"epochs": "3"}, runs=Path("runs"))[3:]
        ['train', '--json', '--runs=runs', '--epochs=3', '--', 'digits']
    """
    words = [sys.executable, "-m", "opsin", "train", "--json", f"--runs={runs}"]
    if plan:
        words += ["--plan", "--quiet"]
    elif name:
        words.append(f"--name={name}")
    if recipe is not None:
        words.append(f"--recipe={recipe}")
    if labels is not None:
        words.append(f"--labels={labels}")
    return [*words, *flags(values), *pictures]


def words_of_location(location: Mapping[str, Any]) -> tuple[list[str], Path | None]:
    """Return the words for a run's own pictures, and the table of corrections it was trained with.

    Args:
        location: What `opsin.core.artifacts.run_directory.RunDirectory.location` says.

    Example:
        >>> words_of_location({"sources": ["digits"], "test": None})
        (['--', 'digits'], None)
    """
    test, labels = location.get("test"), location.get("labels")
    words = [f"--test={test}"] if test else []
    return [*words, "--", *map(str, location["sources"])], Path(labels) if labels else None


def values_of(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return a run's options as a form shows them, those of its source left out.

    Args:
        recipe: What its ``recipe.json`` holds.

    Example:
        >>> values_of({"model": {"name": "mlp", "hidden": [64, 32]}, "training": {"flip": False}})
        {'model': 'mlp', 'hidden': '64,32', 'flip': 'no'}
    """
    options = options_of(recipe)
    shown = {
        field.name for each in fields_for(str(options.get("model"))).values() for field in each
    }
    return {
        name: _text(value)
        for name, value in options.items()
        if value is not None and name in (*FRONT, *shown)
    }


def options_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's options side by side: ``model`` is its model's name."""
    found: dict[str, Any] = {}
    for part in ("data", "model", "training"):
        options = recipe.get(part)
        if isinstance(options, dict):
            found |= {("model" if (part, k) == ("model", "name") else k): v
                      for k, v in options.items()}  # fmt: skip
    return found


def keep_recipe(
    folder: Path, recipe: Mapping[str, Any], changed: Mapping[str, str], *, same_pictures: bool
) -> Path:
    """Write what is taken over from a run's recipe as a file for ``--recipe``; return its path.

    What is changed takes what belonged to the older choice along: another optimiser its rate,
    another kind of pictures the ways of varying them.

    Args:
        folder: Where such files are kept.
        recipe: What the run's ``recipe.json`` holds.
        changed: The options that are others now; an empty one is left to be decided again.
        same_pictures: Whether it is trained on the run's own pictures; on others the data part
            does not apply.

    Raises:
        StorageError: The disk refuses the write.
    """
    options = options_of(recipe)
    # Where the pictures are is said by the caller.
    gone = {"sources", "test", "labels", *changed}
    gone |= {other for name, new in changed.items() if new for other in _GO_WITH.get(name, ())}
    if not same_pictures:
        gone |= set(DataRecipe.model_fields)
    kept = {key: v for key, v in options.items() if key not in gone and v is not None}
    if "model" not in kept and "model" in options:
        # Options of one network mean nothing to another.
        kept = {key: v for key, v in kept.items() if key in DataRecipe.model_fields}
    name = hashlib.blake2s(json.dumps(kept, sort_keys=True).encode(), digest_size=8).hexdigest()
    path = folder / f"{name}.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)
    return path


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return _YES if value else _NO
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
