"""A recipe from the given options and each network's own defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

from opsin.core.errors import RecipeError
from opsin.core.recipe import (
    AUGMENTATIONS,
    CHANGEABLE,
    DEEPEST,
    MODEL_OPTIONS,
    OPTIMIZERS,
    TRAINING_OPTIONS,
    ClassicalName,
    DataRecipe,
    ModelRecipe,
    Recipe,
    TrainingRecipe,
    option_errors,
    override,
    refuse_unknown,
)
from opsin.models.architectures import MODELS, ModelSpec

# The default network.
_USUAL: Final = "resnet"


def resolve(
    data: DataRecipe, *, model: str | None = None, mirrored: bool = True, **options: Any
) -> Recipe:
    """Return a recipe with the given options, and every other at its default."""
    name = model or _USUAL
    if name not in MODELS:
        models = ", ".join((*MODELS, *get_args(ClassicalName)))
        raise RecipeError(f"There is no model {name!r}; there are {models}")
    options = {key: value for key, value in options.items() if value is not None}
    refuse_unknown(options, (*MODEL_OPTIONS, *TRAINING_OPTIONS))
    fields = {**_defaults(MODELS[name], options, mirrored=mirrored), **options}
    augment, side = fields["augment"], min(data.size or (32, 32))
    if not isinstance(augment, str) or augment not in AUGMENTATIONS:
        names = ", ".join(AUGMENTATIONS)
        raise RecipeError(f"There is no augmentation {augment!r}; there are {names}")
    parts = AUGMENTATIONS[augment]
    fields = {**parts, "shift": min(64, round(parts["shift"] * side)), **fields}
    if not MODELS[name].convolutional and fields["optimizer"] == "muon":
        advice = "Give --optimizer adam."
        raise RecipeError(f"muon trains networks with convolutions, not {name}", advice)
    if fields["schedule"] in ("constant", "step") and "patience" not in options:
        # A falling rate gets its best epochs last; only a rate that stays can have passed its best.
        fields["patience"] = 5
    if "depth" in options and "hidden" not in options:
        # Dense layers repeat the last size, blocks double it.
        sizes, wanted = list(fields["hidden"]), options["depth"]
        wanted = wanted if isinstance(wanted, int) and 0 <= wanted <= DEEPEST else len(sizes)
        while len(sizes) < wanted:
            sizes.append(2 * sizes[-1] if MODELS[name].convolutional else sizes[-1])
        fields["hidden"] = tuple(sizes[:wanted])
    hidden = fields["hidden"]
    length = len(hidden) if isinstance(hidden, tuple | list) else None
    if fields.setdefault("depth", length) != length:
        depth = fields["depth"]
        raise RecipeError(f"hidden {hidden!r} has not as many sizes as depth {depth!r} says")
    with option_errors():
        return Recipe(
            data=data,
            model=ModelRecipe(name=name, **{k: v for k, v in fields.items() if k in MODEL_OPTIONS}),
            training=TrainingRecipe(**{k: v for k, v in fields.items() if k in TRAINING_OPTIONS}),
        )


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """Return a recipe whose training goes on with other options."""
    fixed = sorted(set(changes) - set(CHANGEABLE))
    if fixed:
        raise RecipeError(
            f"{', '.join(fixed)} cannot be changed, only {', '.join(CHANGEABLE)}",
            "Train a new run.",
        )
    changes = {key: value for key, value in changes.items() if value is not None}
    model = recipe.model.model_dump()
    options = override(recipe.training.model_dump(), changes)
    return resolve(recipe.data, model=model.pop("name"), **model, **options)


def _defaults(spec: ModelSpec, options: Mapping[str, Any], *, mirrored: bool) -> dict[str, object]:
    defaults = dict(spec.defaults)
    if not mirrored and defaults["augment"] == "photos":
        defaults["augment"] = "symbols"
    if "augment" in options:
        # The network's own values do not weaken an explicit policy.
        defaults = {
            key: value for key, value in defaults.items() if key not in AUGMENTATIONS["none"]
        }
    optimizer = options.get("optimizer")
    if isinstance(optimizer, str) and optimizer != defaults["optimizer"]:
        defaults |= OPTIMIZERS.get(optimizer, {})
    return defaults
