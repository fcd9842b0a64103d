"""A dataset in figures: an overview, the audit page, and how training would vary its images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from opsin.commands.train.words import MIRRORED
from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import AUGMENTATIONS, DataRecipe, TrainingRecipe
from opsin.core.storage import write_bytes, write_json
from opsin.data.audit import Audit
from opsin.data.dataset import Dataset
from opsin.evaluation.mistakes import check_seed
from opsin.models.resolve import resolve
from opsin.report.figures import dataset_figures as figures
from opsin.report.figures.style import save, styled
from opsin.report.templates import fill

# Images whose variations are shown, and variations of each.
_SHOWN, _EACH = 6, 8


@checked
def draw_data(dataset: Dataset, folder: str | os.PathLike[str], *, seed: int = 0) -> list[Path]:
    """Draw an overview of a dataset.

    Args:
        dataset: The images.
        folder: Folder for the figures: ``image.png`` (a training image enlarged, as a heat map),
            ``grid.png`` (25 with their names), ``means.png`` (the mean of each class) and
            ``classes.png`` (their sizes).
        seed: Seed of the random choice of training images.

    Returns:
        The files.

    Raises:
        RecipeError: The seed is below 0.
        StorageError: The disk refuses a write.
    """
    check_seed(seed)
    rows = dataset.split.train if len(dataset.split.train) else np.arange(len(dataset))
    shown = np.random.default_rng(seed).permutation(rows)[:25]
    labels = [dataset.classes[dataset.labels[row]] for row in shown]
    means = figures.class_means(dataset.images, dataset.labels, rows, len(dataset.classes))
    chosen = f"{len(shown)} of {len(rows):,} training images, drawn at random (seed {seed})"
    with styled():
        drawn = {
            "image": figures.draw_heat_map(
                dataset.images[int(shown[0])], f"{labels[0]} ({dataset.names[shown[0]]})"
            ),
            "grid": figures.draw_grid(list(dataset.images[shown]), labels, chosen),
            "means": figures.draw_means(means, dataset.classes),
            "classes": figures.draw_class_sizes(dataset.counts()),
        }
        return [save(figure, Path(folder) / f"{name}.png") for name, figure in drawn.items()]


@checked
def write_audit(audit: Audit, folder: str | os.PathLike[str]) -> Path:
    """Write the findings of an audit as a page, and all of them as JSON.

    Args:
        audit: The result of `opsin.audit`.
        folder: Folder for ``audit.html`` and ``audit.json``.

    Returns:
        The page.

    Raises:
        StorageError: The disk refuses a write.
    """
    page, data = Path(folder) / "audit.html", audit.dataset
    write_json(page.with_suffix(".json"), audit.records())
    part_of = data.split.part_names(len(data))
    # 18 cases per kind, and 4 images per case.
    text = fill(
        "audit.html", data=data, part_of=part_of, findings=audit.findings, shown=18, together=4
    )
    write_bytes(page, text.encode("utf-8", "backslashreplace"))
    return page


class Variations(NamedTuple):
    """How training images would be varied: the policy's name, its parts, and some drawn."""

    policy: str
    parts: dict[str, float]
    words: str
    image: Path


def draw_variations(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    watcher: Watcher = SILENT,
    **options: Any,
) -> Variations:
    """Draw training images of some classes, each as it is and as it is trained on."""
    check_varying(**options)
    import torch  # noqa: PLC0415

    from opsin.training.augment import augment  # noqa: PLC0415

    recipe = resolve(dataset.recipe, mirrored=dataset.mirrored, seed=seed, **options).training
    if recipe.flip and not dataset.mirrored:
        watcher.note(MIRRORED)
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
        figure = figures.draw_varied(list(images), list(varied), classes, title)
        image = save(figure, Path(folder) / "augment.png")
    parts = {name: getattr(recipe, name) for name in AUGMENTATIONS["none"]}
    return Variations(recipe.augment, parts, words, image)


def check_varying(**options: Any) -> None:
    """Refuse impossible variations before images are read."""
    try:
        import torch  # noqa: F401, PLC0415  the training half is loaded by the verb that needs it
    except ImportError as error:
        raise MissingExtraError("varying images", "train") from error
    resolve(DataRecipe.of("images that are not read yet"), **options)


def in_words(recipe: TrainingRecipe, height: int, width: int) -> str:
    """Describe the variations of training images of a size."""
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
