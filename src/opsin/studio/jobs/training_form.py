"""The form of a training: its fields, what is wrong with their texts, and the command line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pydantic.fields import FieldInfo

from opsin.classical.classical_recipe import (
    BACKBONE,
    PIXEL_MODELS,
    TRAIN_OPTIONS,
    Fitting,
    options_for,
)
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.errors import RecipeError
from opsin.core.format import seconds_of
from opsin.core.recipe import (
    AUGMENTATION,
    NETWORK,
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
        "as-trained": "As common as in the training photographs", "even": "All equally common",
    },
}  # fmt: skip
LABELS: Final = {
    "model": "Model", "budget": "Time", "augment": "What the photographs show",
    "backbone": "Pretrained network", "fine_tune": "Train the network itself too",
}  # fmt: skip
_TIME: Final = "Instead of epochs, such as 10m or 1h30m."
#: Every option of a form by name: those of a recipe, the model, and a limit of time.
OPTIONS: Final = {
    "model": RecipeOption("model", FieldInfo(annotation=str), NETWORK),
    "budget": RecipeOption("budget", FieldInfo(annotation=str, description=_TIME), TRAINING),
    **TRAIN_OPTIONS,
}
# The headings of the form by those of the options; the network has the others.
_HEADINGS: Final = {
    PREPARATION: "What it learns from", SPLIT: "What it learns from",
    AUGMENTATION: "What it learns from", TRAINING: "How it trains",
}  # fmt: skip
# The order of what comes first.
_FRONT: Final = ("model", "augment", "backbone", "fine_tune", "epochs", "budget")


def fields_for(model: str, fine_tune: str = YES) -> dict[str, list[RecipeOption]]:
    """The options that mean something to a model, under the headings of the form."""
    groups = dict[str, list[RecipeOption]]()
    for title in ("What it learns from", "The network", "How it trains"):
        groups[title] = []
    # A head on frozen features has no epochs.
    in_epochs = model not in PIXEL_MODELS and (model != BACKBONE or fine_tune == YES)
    for option in (OPTIONS["model"], OPTIONS["budget"], *options_for(model).values()):
        fits = in_epochs or option.group not in (AUGMENTATION, TRAINING)
        # The pixels of a pretrained network are known.
        is_hidden = option.group == SOURCE or option.name == "prepare"
        if not is_hidden and (fits or option.name in Fitting.model_fields):
            groups[_HEADINGS.get(option.group, "The network")].append(option)
    for options in groups.values():
        options.sort(key=lambda option: option.name not in _FRONT)
    return groups


def fault(name: str, text: str, model: str) -> str:
    """Return what is wrong with a field's text, or ``""``; empty means the default."""
    text, option, reason = text.strip(), options_for(model).get(name) or OPTIONS[name], ""
    if text and name == "budget":
        try:
            seconds_of(text)
        except RecipeError as error:
            reason = error.message
    elif text and name in CHOICES:
        reason = "" if text in CHOICES[name] else not_one_of(CHOICES[name], text)
    elif text:
        reason = option.fault(text)
    return f"{LABELS.get(name, option.label)}: {reason}" if reason else ""


def argv(
    images: Sequence[str],
    values: Mapping[str, str],
    *,
    runs: Path,
    labels: Path | None = None,
    name: str = "",
    plan: bool = False,
) -> list[str]:
    """Return the command line of a training, or of its plan."""
    words = [sys.executable, "-m", "opsin", "train", "--json", f"--runs={runs}"]
    words += ["--plan", "--quiet", "--offline"] if plan else [f"--name={name}"] * bool(name)
    words += [f"--labels={labels}"] * bool(labels)
    for key, value in values.items():
        if text := value.strip():
            words.append(OPTIONS[key].argument(text))
    return [*words, *images]


def values_of(recipe: RecordedRecipe) -> dict[str, str]:
    """Return a run's options as form values, without those that say where its images lie."""
    options = flat_options(recipe.model_dump(mode="json", exclude_unset=True))
    values = {}
    for name, value in options.items():
        field = DataRecipe.model_fields.get(name)
        # A stated split would keep images from judging, even the usual one.
        is_usual = value is None or (field is not None and value == field.default)
        if name in OPTIONS and name not in ("test", "labels", "parts_of") and not is_usual:
            values[name] = OPTIONS[name].write(value)
    return values
