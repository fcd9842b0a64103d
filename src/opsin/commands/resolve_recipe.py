"""What a recipe leaves open is decided by images, machine and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.automatic import Choice, choose
from opsin.core.events import Watcher
from opsin.core.format import clock
from opsin.core.pace import seconds_of
from opsin.core.recipe import Recipe
from opsin.data.dataset import Dataset
from opsin.models.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


#: Said where images are mirrored that mean something else then.
MIRRORED: Final = (
    "images are mirrored although these mean something else then, as most letters and "
    "digits do; leave them as they are by --no-flip"
)


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe that leaves nothing open.

    Args:
        recipe: The recipe.
        given: Names of the options that the user has given, which nothing may change.
        epoch: Seconds of an epoch where a budget was held against them, else ``None``.
    """

    recipe: Recipe
    given: Collection[str]
    epoch: float | None = None


def resolve_recipe(
    dataset: Dataset,
    *,
    model: str | None,
    budget: str | float | None,
    options: Mapping[str, object],
    watcher: Watcher,
    reasons: Mapping[str, str] | None = None,
) -> ResolvedRecipe:
    """Choose network, size, epochs and balance where they were not given.

    Args:
        dataset: What is learnt from.
        model: Name of the network; ``auto`` or ``None`` to choose it.
        budget: Time that the training may take: seconds, or ``10m``, ``1h30m``.
        options: Those of the model and the training that were given.
        watcher: Is told how far the measuring for a budget is.
        reasons: What was decided before, and why.

    Raises:
        RecipeError: An option that cannot work, or a budget that no training fits into.
    """
    from opsin.training.budget import fit_budget  # noqa: PLC0415
    from opsin.training.device import choose_device, has_quick_bfloat16  # noqa: PLC0415

    seconds = None if budget is None else seconds_of(budget)
    given = {key: value for key, value in options.items() if value is not None}
    # Refuses an unknown option before any of them is used.
    recipe = resolve(
        dataset.recipe,
        model=None if model == "auto" else model,
        mirrored=dataset.mirrored,
        **given,
    )
    device = choose_device(recipe.training.device)
    chosen_by: dict[str, str] = {}
    epoch: float | None = None
    if model in (None, "auto"):
        quick = recipe.training.precision != "float32" and has_quick_bfloat16(device)
        choice = _choice(dataset, given, device=device.type, quick=quick)
        chosen_by = {"Auto": choice.reason}
        recipe = resolve(
            dataset.recipe, model=choice.model, mirrored=dataset.mirrored, **choice.options
        )
    if recipe.training.flip and not dataset.mirrored:
        watcher.note(MIRRORED)
    recipe = with_balance(recipe, dataset)
    if seconds is not None:
        recipe, chosen, epoch = fit_budget(
            seconds, recipe, dataset, device=device, given=set(given), watcher=watcher
        )
        # Its network and its epochs are the ones that hold.
        chosen_by = {"Budget": f"{clock(seconds)} · {chosen}"}
    every = {**(reasons or {}), **chosen_by, **recipe.reasons}
    return ResolvedRecipe(recipe.model_copy(update={"reasons": every}), set(given), epoch)


def _choice(dataset: Dataset, given: Mapping[str, object], *, device: str, quick: bool) -> Choice:
    """Choose a network for the images and the machine."""
    height, width, channels = dataset.images.shape[1:]
    return choose(
        shape=(height, width, channels),
        counts=_counts(dataset).tolist(),
        mirrored=dataset.mirrored,
        device=device,
        quick=quick,
        given=given,
    )


def _counts(dataset: Dataset) -> NDArray[np.int64]:
    """Return how many training images each class has, ``int64[K]``."""
    labels = dataset.labels[dataset.split.train]
    return np.bincount(labels, minlength=len(dataset.classes))


def with_balance(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Return a recipe that says whether rare classes count more; decide it where it is open."""
    from opsin.training.sampling import choose_balance  # noqa: PLC0415

    if recipe.training.balance != "auto":
        return recipe
    in_shards = recipe.training.shuffle_buffer is not None
    balance, reason = choose_balance(_counts(dataset), in_shards=in_shards)
    reasons = recipe.reasons | ({"Balance": reason} if balance != "none" else {})
    return recipe.with_training(balance=balance).model_copy(update={"reasons": reasons})
