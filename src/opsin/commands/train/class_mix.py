"""How common each class is among the images that a classifier's answers are for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from opsin.core.errors import RecipeError
from opsin.core.metadata import ClassMix
from opsin.data.dataset import Dataset
from opsin.data.spelling import nfc

#: The mix among the training images, which is the usual one.
AS_TRAINED: Final = "as-trained"
_SHARES: Final = TypeAdapter(dict[str, float])
# A file of shares for more classes than there may be.
_LARGEST: Final = 10_000_000


def assumed_mix(asked: str, dataset: Dataset) -> NDArray[np.float64]:
    """Return the share of each class that answers are to assume, ``float64[K]``."""
    classes = len(dataset.classes)
    if asked == "even":
        return np.full(classes, 1 / classes)
    if asked == AS_TRAINED:
        return shares_of(dataset.labels[dataset.split.train], classes)
    return _shares_in(Path(asked), dataset.classes)


def shares_of(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return the share of each class, ``float64[K]``; one without images counts as one image."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return np.asarray(counts / counts.sum(), np.float64)


def class_mix(
    asked: str, dataset: Dataset, labels: NDArray[np.int64], *, balanced: bool
) -> ClassMix:
    """Return the mix that a model was fitted under, and the one that its answers are to assume."""
    classes = len(dataset.classes)
    learnt = np.full(classes, 1 / classes) if balanced else shares_of(labels, classes)
    assumed = assumed_mix(asked, dataset)
    return ClassMix(learnt=tuple(learnt.tolist()), assumed=tuple(assumed.tolist()))


def _shares_in(path: Path, classes: tuple[str, ...]) -> NDArray[np.float64]:
    expected = "as-trained, even, or a JSON file with a share above 0 for each class"
    advice = f'Write such a file: {{"{classes[0]}": 0.9, …}}.'
    try:
        if path.stat().st_size > _LARGEST:
            raise RecipeError(expected, f"{path} is too large", advice)
        shares = _SHARES.validate_json(path.read_bytes())
    except OSError:
        raise RecipeError(expected, f"got {str(path)!r}, which is no file", advice) from None
    except ValidationError:
        raise RecipeError(expected, f"{path} holds something else", advice) from None
    found = {nfc(name): share for name, share in shares.items()}
    wrong = [name for name in classes if not 0 < found.get(nfc(name), 0) < np.inf]
    wrong += [name for name in found if name not in map(nfc, classes)]
    if wrong:
        raise RecipeError(expected, f"{path} says none for {wrong[0]!r}, or it is no class", advice)
    listed = np.array([found[nfc(name)] for name in classes], np.float64)
    return np.asarray(listed / listed.sum(), np.float64)
