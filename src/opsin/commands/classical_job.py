"""What a model that scikit-learn fits is to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.classical.classical_recipe import ClassicalRecipe, FromBackbone, resolve_classical
from opsin.commands.class_mix import in_words
from opsin.commands.installed import answering_device, versions
from opsin.core.defaults import cores
from opsin.core.errors import RecipeError
from opsin.core.format import about
from opsin.core.metadata import Layer
from opsin.core.pace import seconds_of
from opsin.data.audit import Audit
from opsin.data.dataset import Dataset
from opsin.runtime.providers import CPU

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone


# Training images from which on fine-tuning mixes them: of fewer, each says too much.
_MIXED: Final = 1_000


def resolve_fitting(
    dataset: Dataset,
    *,
    model: str,
    budget: str | float | None,
    options: Mapping[str, Any],
    reasons: Mapping[str, str] | None = None,
) -> ClassicalRecipe:
    """Decide everything that the caller left open, and check all of it.

    Args:
        dataset: What it learns from.
        model: A name among `opsin.classical.classical_recipe.FITTED`.
        budget: Time that fine-tuning may take; nothing else has steps that could be left out.
        options: Fields of the recipe that the caller gave; ``None`` means not given.
        reasons: What was decided before, and why.

    Raises:
        RecipeError: An option that the model does not have, or a value outside its range.
    """
    timed = {} if options.get("fine_tune") else {"budget": budget}
    few = len(dataset.split.train) < _MIXED
    if few and options.get("fine_tune") and options.get("mixup") is None:
        options = {**options, "mixup": 0.0}
    mirrored = dataset.mirrored
    recipe = resolve_classical(dataset.recipe, model=model, mirrored=mirrored, **options, **timed)
    every, seconds = {**(reasons or {}), **recipe.reasons}, None
    if budget is not None:
        seconds = seconds_of(budget)
        every["Budget"] = f"as many of the epochs as fit into {about(seconds)}"
    return recipe.model_copy(update={"budget": seconds, "reasons": every})


#: Training images from which on each is looked at once, and through a network's last features
#: alone: more of them tell more than more views and depths.
MANY_IMAGES: Final = 20_000


@dataclass(frozen=True)
class ClassicalJob:
    """All that a fitting needs, checked before anything is written."""

    dataset: Dataset
    audit: Audit
    recipe: ClassicalRecipe
    #: Training images that it is fitted to, ``int64[N]``.
    rows: NDArray[np.int64]
    #: Known once it is fitted.
    layers: list[Layer]
    threads: int
    #: The pretrained network that it is built on.
    backbone: Backbone | None = None

    @classmethod
    def prepare(
        cls,
        dataset: Dataset,
        audited: Audit,
        recipe: ClassicalRecipe,
        backbone: Backbone | None = None,
    ) -> ClassicalJob:
        """Choose the images, and see that there is something to tell apart.

        Raises:
            RecipeError: There is one class only, or a class without training images.
        """
        from opsin.classical.pixels import Pooling, drawn  # noqa: PLC0415  stays quick to import

        train = dataset.split.train
        rows = drawn(train, dataset.labels[train], recipe.model.images, recipe.training.seed)
        missing = set(range(len(dataset.classes))) - set(dataset.labels[rows].tolist())
        if missing or len(dataset.classes) < 2:
            received = "there is one class only"
            if missing:
                received = f"class {dataset.classes[min(missing)]!r} has none"
            raise RecipeError(
                "training images of two classes or more", received, "Add images, or a class."
            )
        reasons = dict(recipe.reasons)
        if len(rows) < len(train):
            reasons["Images"] = (
                f"{len(rows):,} of {len(train):,} training images, each class at its share; "
                f"for more: --images {len(train)}"
            )
        torch = ("torch",) if recipe.fine_tunes else ()
        reasons["Class mix"] = in_words(recipe.training.class_mix, dataset)
        packages = versions("scikit-learn", "onnx", "onnxruntime", "numpy", "pillow", *torch)
        if backbone is not None:
            if len(rows) > MANY_IMAGES and getattr(recipe.model, "at", None) is None:
                backbone = replace(backbone, at=backbone.at[:1])
            reasons["Backbone"] = backbone.words
            packages["backbone"] = f"sha256:{backbone.digest}"
        elif not isinstance(recipe.model, FromBackbone):
            height, width, channels = dataset.images.shape[1:]
            pooling = Pooling.to_fit((height, width, channels), recipe.model.side)
            if pooling.factor > 1:
                _, rows_left, columns_left = pooling.shape
                reasons["Pixels"] = (
                    f"{height}×{width} averaged down to {rows_left}×{columns_left}; for all of "
                    f"them: --side {max(height, width)}"
                )
        recipe = recipe.model_copy(update={"reasons": reasons, "versions": packages})
        answering_device(recipe)  # refuses what is not there
        return cls(dataset, audited, recipe, rows, [], cores(), backbone)

    @property
    def device_name(self) -> str:
        """Where it is fitted, as a person would say it."""
        where = f"CPU, {self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.answers_on == CPU:
            return where
        what = "answers" if self.backbone is None else "features and answers"
        return f"{where}; {what} on {self.answers_on}"

    @property
    def answers_on(self) -> str:
        """Where ONNX Runtime computes."""
        return answering_device(self.recipe)
