"""What people ask of a training, as arguments."""

from __future__ import annotations

import hashlib
import json
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from opsin.classical.recipe import MODELS, Fitting
from opsin.recipe import DataRecipe, ModelRecipe, TrainingRecipe
from opsin.storage import write_json

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


@dataclass(frozen=True)
class Field:
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
            >>> Field("batch_size", "Pictures a step.").label
            'Batch size'
        """
        return self.name.replace("_", " ").capitalize()


def fields_for(model: str) -> dict[str, list[Field]]:
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


def _field(recipe: type[BaseModel], name: str) -> Field:
    info = recipe.model_fields[name]
    return Field(name, info.description or "", _choices(info.annotation))


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
            found.append(f"--size={text.replace(',', 'x')}")
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
        location: What `opsin.run.RunDirectory.location` says.

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
