"""How training images would be varied, as an image and in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from opsin.commands.train.words import MIRRORED
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import AUGMENTATIONS, Augmentation, DataRecipe, TrainingRecipe
from opsin.core.stored_json import JsonObject
from opsin.data.dataset import Dataset
from opsin.models.resolve import resolve

# Images that are shown, and variations of each.
_SHOWN, _EACH = 6, 8


class Variations(BaseModel):
    """How the training images of a collection would be varied."""

    #: What the images are said to show: ``photos``, ``documents``, ``symbols``; or ``none``.
    policy: Augmentation
    #: How much of what: ``flip``, ``shift`` (pixels), ``zoom``, ``rotate`` (degrees) ….
    parts: dict[str, float]
    words: str
    #: A file with some training images and variations of each.
    image: Path

    def to_json(self) -> JsonObject:
        """All of it as plain values."""
        parts = {"policy": self.policy, **self.parts}
        return {**parts, "words": self.words, "image": str(self.image)}


def draw_variations(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    watcher: Watcher = SILENT,
    **options: Any,
) -> Variations:
    """Draw some training images of different classes, each as it is and as it is trained on."""
    check_varying(**options)
    import torch  # noqa: PLC0415

    from opsin.report.figures.dataset_figures import draw_varied  # noqa: PLC0415
    from opsin.report.figures.style import save, styled  # noqa: PLC0415
    from opsin.training.augment import augment  # noqa: PLC0415

    recipe = resolve(dataset.recipe, mirrored=dataset.mirrored, seed=seed, **options).training
    if recipe.flip and not dataset.mirrored:
        watcher.note(MIRRORED)
    # A training image, drawn at random, of each of some classes spread over all.
    rows = dataset.split.train if len(dataset.split.train) else np.arange(len(dataset))
    rows = np.random.default_rng(seed).permutation(rows)
    _, first = np.unique(dataset.labels[rows], return_index=True)
    spread = np.linspace(0, len(first) - 1, min(_SHOWN, len(first))).round().astype(np.int64)
    rows = rows[first[spread]]
    images = dataset.images[rows]
    batch = torch.from_numpy(np.repeat(images, _EACH, axis=0))
    varied = augment(batch, recipe, torch.Generator().manual_seed(recipe.seed)).numpy()
    varied = varied.reshape(len(images), _EACH, *varied.shape[1:])
    words = in_words(recipe, *dataset.images.shape[1:3])
    classes = [dataset.classes[dataset.labels[row]] for row in rows]
    with styled():
        title = words[:1].upper() + words[1:]
        figure = draw_varied(list(images), list(varied), classes, title)
        image = save(figure, Path(folder) / "augment.png")
    parts = {name: getattr(recipe, name) for name in AUGMENTATIONS["none"]}
    return Variations(policy=recipe.augment, parts=parts, words=words, image=image)


def check_varying(**options: Any) -> None:
    """Check that images can be varied so, before an hour is spent on reading them."""
    try:
        import torch  # noqa: F401, PLC0415  the training half is loaded by the verb that needs it
    except ImportError as error:
        raise MissingExtraError("varying images", "train") from error
    resolve(DataRecipe.of("images that are not read yet"), **options)


def in_words(recipe: TrainingRecipe, height: int, width: int) -> str:
    """What is done to training images of a size, in words."""
    side = max(1, round(recipe.erase * min(height, width)))
    amounts = {
        "mirrored": recipe.flip,
        f"moved by up to {recipe.shift} pixel{'s' if recipe.shift > 1 else ''}": recipe.shift,
        f"zoomed by up to {100 * recipe.zoom:.3g}%": recipe.zoom,
        f"turned by up to {recipe.rotate:g}°": recipe.rotate,
        f"cropped to {100 * recipe.crop:.3g}% of the area or more": recipe.crop,
        f"brightness and contrast changed by up to {100 * recipe.brightness:.3g}%": (
            recipe.brightness
        ),
        f"saturation and tint changed by up to {100 * recipe.colour:.3g}%": recipe.colour,
        f"a square of {side} × {side} put out": recipe.erase,
    }
    done = [words for words, amount in amounts.items() if amount]
    return ", ".join(done) or "left as they are"
