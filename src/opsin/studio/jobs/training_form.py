"""The form of a training: its fields, what is wrong with their texts, and the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from opsin.classical.classical_recipe import (
    BACKBONE,
    PIXEL_MODELS,
    TRAIN_OPTIONS,
    Fitting,
    options_for,
)
from opsin.core.artifacts.records import Location
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.errors import RecipeError
from opsin.core.format import seconds_of
from opsin.core.recipe import (
    AUGMENTATION,
    PREPARATION,
    SOURCE,
    SPLIT,
    TRAINING,
    DataRecipe,
    flat_options,
)
from opsin.core.recipe_options import YES, RecipeOption, not_one_of
from opsin.models.architectures import MODELS as NETWORKS

#: The models by name, with their descriptions.
MODEL_WORDS: Final[dict[str, str]] = {
    "": "Automatic",
    BACKBONE: "A pretrained network: best for few photographs",
    **{name: f"{name}: {spec.description}" for name, spec in NETWORKS.items()},
    **{name: f"{name}: without layers" for name in PIXEL_MODELS},
}
#: Choices in words, where the option's own would not do.
CHOICES: Final[dict[str, dict[str, str]]] = {
    "model": MODEL_WORDS,
    "augment": {
        "": "Automatic",
        "photos": "Photographs: also mirrored and moved",
        "documents": "Documents: a little askew, in any light",
        "symbols": "Letters, digits, signs: never mirrored",
        "none": "Leave them as they are",
    },
    # A file, too, on the command line.
    "class_mix": {
        "as-trained": "As common as in the training images", "even": "All equally common",
    },
}  # fmt: skip
LABELS: Final = {
    "model": "Model", "budget": "Time", "augment": "What the images show",
    "backbone": "Pretrained network", "fine_tune": "Train the network itself too",
}  # fmt: skip
# The headings of the form by those of the options; the network has the others.
_HEADINGS: Final = {
    PREPARATION: "What it learns from", SPLIT: "What it learns from",
    AUGMENTATION: "What it learns from", TRAINING: "How it trains",
}  # fmt: skip
# The order of what comes first; the pixels of a pretrained network are known.
_FRONT: Final = ("augment", "backbone", "fine_tune", "epochs")
_HIDDEN: Final = ("prepare",)


def trains_in_epochs(model: str, fine_tune: str) -> bool:
    """Whether a model, as far as it is known, has epochs: a head on frozen features has none."""
    return model not in PIXEL_MODELS and (model != BACKBONE or fine_tune == YES)


def fields_for(model: str, fine_tune: str = YES) -> dict[str, list[RecipeOption]]:
    """The options that mean something to a model, under the headings of the form."""
    groups: dict[str, list[RecipeOption]] = {
        "What it learns from": [], "The network": [], "How it trains": [],
    }  # fmt: skip
    in_epochs = trains_in_epochs(model, fine_tune)
    for name, option in options_for(model).items():
        fits = in_epochs or option.group not in (AUGMENTATION, TRAINING)
        if (
            option.group != SOURCE
            and name not in _HIDDEN
            and (fits or name in Fitting.model_fields)
        ):
            groups[_HEADINGS.get(option.group, "The network")].append(option)
    for options in groups.values():
        options.sort(key=lambda option: option.name not in _FRONT)
    return groups


def fault(name: str, text: str, model: str) -> str:
    """Return what is wrong with a field's text, or ``""``; empty means the default."""
    text, option, reason = text.strip(), options_for(model).get(name), ""
    if text and name == "budget":
        try:
            seconds_of(text)
        except RecipeError as error:
            reason = error.message
    elif text and name in CHOICES and text not in CHOICES[name]:
        reason = not_one_of(CHOICES[name], text)
    elif text and option and name not in CHOICES:
        reason = option.fault(text)
    label = LABELS.get(name) or TRAIN_OPTIONS[name].label
    return f"{label}: {reason}" if reason else ""


def argv(
    images: Sequence[str], values: Mapping[str, str], *, runs: Path, labels: Path | None = None,
    name: str = "", track: Sequence[str] = (), plan: bool = False,
) -> list[str]:  # fmt: skip
    """Return the command line of a training, or of its plan."""
    words = [sys.executable, "-m", "opsin", "train", "--json", f"--runs={runs}"]
    texts = {"name": name, "track": ",".join(track), "labels": labels}
    if plan:
        words += ["--plan", "--quiet", "--offline"]
        texts = {"labels": labels}
    words += [f"--{option}={text}" for option, text in texts.items() if text]
    for key, value in values.items():
        if text := value.strip():
            known = TRAIN_OPTIONS.get(key)
            words.append(known.argument(text) if known else f"--{key}={text}")
    return [*words, *images]


def words_of_location(location: Location) -> tuple[list[str], Path | None]:
    """Return the arguments for a run's own images, and its table of corrections."""
    words = [f"--test={location.test}"] if location.test else []
    return [*words, "--", *location.sources], Path(location.labels) if location.labels else None


def values_of(recipe: RecordedRecipe) -> dict[str, str]:
    """Return a run's options as form values, without those that say where its images lie."""
    options = flat_options(recipe.model_dump(mode="json", exclude_unset=True))
    values = {}
    for name, value in options.items():
        field = DataRecipe.model_fields.get(name)
        # A stated split would keep images from judging, even the usual one.
        is_usual = value is None or (field is not None and value == field.default)
        if name not in ("sources", "test", "labels", "parts_of") and not is_usual:
            values[name] = TRAIN_OPTIONS[name].write(value) if name in TRAIN_OPTIONS else str(value)
    return values
