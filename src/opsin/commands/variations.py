"""How training images would be varied, as an image and in words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.train.words import MIRRORED
from opsin.core.defaults import AUGMENTATIONS
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import Augmentation, DataRecipe, TrainingRecipe
from opsin.core.stored_json import JsonObject
from opsin.data.dataset import Dataset
from opsin.models.resolve import resolve

#: Images that are shown, and variations of each.
_SHOWN: Final = 6
_EACH: Final = 8


@dataclass(frozen=True)
class Variations:
    """How the training images of a collection would be varied.

    Args:
        policy: What the images are said to show: ``photos``, ``documents``, ``symbols``; or
            ``none``.
        parts: How much of what: ``flip``, ``shift`` (pixels), ``zoom``, ``rotate`` (degrees),
            ``light``, ``erase``.
        words: The same in words.
        image: A file with some training images and variations of each.
    """

    policy: Augmentation
    parts: dict[str, float]
    words: str
    image: Path

    def to_json(self) -> JsonObject:
        """Return all of it as plain values."""
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
    """Draw some training images of different classes, each as it is and as it is trained on.

    Args:
        dataset: The images.
        folder: Where ``augment.png`` goes.
        seed: Decides which images are drawn, and how each is varied, at random.
        watcher: Is warned where images are mirrored that mean something else then.
        **options: ``augment`` and what differs from it, as for `opsin.train`.

    Raises:
        MissingExtraError: PyTorch or matplotlib is not installed.
        RecipeError: An option has an impossible value.
        StorageError: The disk refuses a write.
    """
    check_varying(**options)
    from opsin.report.figures.augmentation_figure import draw_varied  # noqa: PLC0415
    from opsin.report.figures.style import save, styled  # noqa: PLC0415

    recipe = resolve(dataset.recipe, mirrored=dataset.mirrored, seed=seed, **options).training
    if recipe.flip and not dataset.mirrored:
        watcher.note(MIRRORED)
    rows = _rows(dataset, seed)
    images = dataset.images[rows]
    varied = _vary(images, recipe)
    _, height, width, _ = dataset.images.shape
    words = in_words(recipe, height, width)
    with styled():
        figure = draw_varied(
            list(images),
            list(varied),
            [dataset.classes[dataset.labels[row]] for row in rows],
            words[:1].upper() + words[1:],
        )
        image = save(figure, Path(folder) / "augment.png")
    parts = {name: getattr(recipe, name) for name in AUGMENTATIONS["none"]}
    return Variations(recipe.augment, parts, words, image)


def check_varying(**options: Any) -> None:
    """Check that images can be varied so, before an hour is spent on reading them.

    Args:
        **options: ``augment`` and what differs from it.

    Raises:
        MissingExtraError: PyTorch is not installed.
        RecipeError: An option has an impossible value.
    """
    try:
        import torch  # noqa: F401, PLC0415  the training half is loaded by the verb that needs it
    except ImportError as error:
        raise MissingExtraError("varying images", "train") from error
    resolve(DataRecipe.of("images that are not read yet"), **options)


def in_words(recipe: TrainingRecipe, height: int, width: int) -> str:
    """Return what is done to training images of a size, in words.

    Example:
        >>> in_words(resolve(DataRecipe.of("mnist", size=28), augment="symbols").training, 28, 28)
        'moved by up to 2 pixels, zoomed by up to 10%, turned by up to 8°'
    """
    done = []
    if recipe.flip:
        done.append("mirrored")
    if recipe.shift:
        done.append(f"moved by up to {recipe.shift} pixel{'s' if recipe.shift > 1 else ''}")
    if recipe.zoom:
        done.append(f"zoomed by up to {100 * recipe.zoom:.3g}%")
    if recipe.rotate:
        done.append(f"turned by up to {recipe.rotate:g}°")
    if recipe.crop:
        done.append(f"cropped to {100 * recipe.crop:.3g}% of the area or more")
    if recipe.light:
        done.append(f"brightness and contrast changed by up to {100 * recipe.light:.3g}%")
    if recipe.colour:
        done.append(f"saturation and tint changed by up to {100 * recipe.colour:.3g}%")
    if recipe.erase:
        from opsin.training.augment import erased_side  # noqa: PLC0415

        side = erased_side(recipe.erase, height, width)
        done.append(f"a square of {side} × {side} put out")
    return ", ".join(done) or "left as they are"


def _rows(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    """Return a training image, drawn at random, of each of some classes spread over all."""
    rows = dataset.split.train if len(dataset.split.train) else np.arange(len(dataset))
    rows = np.random.default_rng(seed).permutation(rows)
    _, first = np.unique(dataset.labels[rows], return_index=True)
    spread = np.linspace(0, len(first) - 1, min(_SHOWN, len(first))).round().astype(np.int64)
    return rows[first[spread]]


def _vary(images: NDArray[np.uint8], recipe: TrainingRecipe) -> NDArray[np.uint8]:
    """Vary each image some times, ``uint8[M, 8, H, W, C]``, as the training would.

    With a side for crops, H and W are that.
    """
    import torch  # noqa: PLC0415

    from opsin.training.augment import augment  # noqa: PLC0415

    batch = torch.from_numpy(np.repeat(images, _EACH, axis=0))
    generator = torch.Generator().manual_seed(recipe.seed)
    varied: NDArray[np.uint8] = augment(batch, recipe, generator).numpy()
    return varied.reshape(len(images), _EACH, *varied.shape[1:])
