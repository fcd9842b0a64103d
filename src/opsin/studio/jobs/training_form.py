"""The form of a training, as command-line arguments."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from opsin.classical.classical_recipe import BACKBONE, PIXEL_MODELS, TRAIN_OPTIONS, options_for
from opsin.core.artifacts.records import Location
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.errors import RecipeError
from opsin.core.format import seconds_of
from opsin.core.recipe import SOURCE, DataRecipe, flat_options, override
from opsin.core.recipe_options import RecipeOption, not_one_of
from opsin.core.storage import write_json
from opsin.models.architectures import MODELS as NETWORKS
from opsin.trackers import is_installed, trackers

#: The models by name, with their descriptions.
MODEL_WORDS: Final[dict[str, str]] = {
    "auto": "Automatic",
    BACKBONE: "A pretrained network: best for few photographs",
    **{name: f"{name}: {spec.description}" for name, spec in NETWORKS.items()},
    **{name: f"{name}: without layers" for name in PIXEL_MODELS},
}
#: Kinds of training images, and their augmentation.
AUGMENT_WORDS: Final[dict[str, str]] = {
    "": "Automatic",
    "photos": "Photographs: also mirrored and moved",
    "documents": "Documents: a little askew, in any light",
    "symbols": "Letters, digits, signs: never mirrored",
    "none": "Leave them as they are",
}
#: Options that take a file on the command line, with their choices here.
CHOICES: Final[dict[str, dict[str, str]]] = {
    "class_mix": {"as-trained": "As common as in the training images", "even": "All equally common"}
}
#: Options shown first.
FRONT: Final = ("model", "epochs", "budget", "augment", "backbone", "prepare", "fine_tune")


def tracker_words() -> dict[str, str]:
    """Return the titles of the installed trackers, by name."""
    return {name: kind.title for name, kind in trackers().items() if is_installed(kind)}


def fields_for(model: str) -> dict[str, list[RecipeOption]]:
    """Return the other options of a model, by heading."""
    groups: dict[str, list[RecipeOption]] = {}
    for name, option in options_for(model).items():
        if name not in FRONT and option.group != SOURCE:
            groups.setdefault(option.group, []).append(option)
    return groups


def fault(name: str, text: str, model: str) -> str:
    """Return what is wrong with a field's text, or ``""``; empty means the default."""
    text = text.strip()
    label, reason = "Time", ""
    if text and name == "budget":
        try:
            seconds_of(text)
        except RecipeError as error:
            reason = error.message
    elif text and name in CHOICES and text not in CHOICES[name]:
        label, reason = TRAIN_OPTIONS[name].label, not_one_of(CHOICES[name], text)
    elif text and (option := options_for(model).get(name)):
        label, reason = option.label, option.fault(text)
    return f"{label}: {reason}" if reason else ""


def flags(values: Mapping[str, str]) -> list[str]:
    """Return options as flags, without empty ones."""
    return [
        TRAIN_OPTIONS[name].argument(text) if name in TRAIN_OPTIONS else f"--{name}={text}"
        for name, value in values.items()
        if (text := value.strip())
    ]


def argv(
    images: Sequence[str], values: Mapping[str, str], *, runs: Path, recipe: Path | None = None,
    labels: Path | None = None, name: str = "", track: Sequence[str] = (), plan: bool = False,
) -> list[str]:  # fmt: skip
    """Return the command line of a training, or of its plan."""
    words = [sys.executable, "-m", "opsin", "train", "--json", f"--runs={runs}"]
    if plan:
        name, track = "", ()
        words += ["--plan", "--quiet", "--offline"]
    texts = {"name": name, "track": ",".join(track), "recipe": recipe, "labels": labels}
    words += [f"--{option}={text}" for option, text in texts.items() if text]
    return [*words, *flags(values), *images]


def words_of_location(location: Location) -> tuple[list[str], Path | None]:
    """Return the arguments for a run's own images, and its table of corrections."""
    words = [f"--test={location.test}"] if location.test else []
    return [*words, "--", *location.sources], Path(location.labels) if location.labels else None


def values_of(recipe: RecordedRecipe) -> dict[str, str]:
    """Return a run's options as form values, without its source's."""
    options = flat_options(recipe.model_dump(mode="json", exclude_unset=True))
    known = options_for(recipe.model.name)
    asked = {*FRONT, *(name for name, option in known.items() if option.group != SOURCE)}
    return {
        name: known[name].write(value) if name in known else str(value)
        for name, value in options.items()
        if name in asked and not _is_usual(name, value)
    }


def _is_usual(name: str, value: object) -> bool:
    """Whether an option need not be stated: a stated split would keep images from judging."""
    field = DataRecipe.model_fields.get(name)
    return value is None or (field is not None and value == field.default)


def keep_recipe(folder: Path, recipe: RecordedRecipe, changed: Mapping[str, str]) -> Path:
    """Write a run's remaining recipe to a file for ``--recipe``; return its path."""
    # The caller states the images and their parts.
    gone = {"sources", "test", "labels", "parts_of", *changed}
    # Options that depend on an emptied choice keep the form's values.
    others = {name: new for name, new in changed.items() if new or name == "model"}
    options = override(flat_options(recipe.model_dump(mode="json", exclude_unset=True)), others)
    kept = {key: v for key, v in options.items() if key not in gone and not _is_usual(key, v)}
    name = hashlib.blake2s(json.dumps(kept, sort_keys=True).encode(), digest_size=8).hexdigest()
    path = folder / f"{name}.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)
    return path
