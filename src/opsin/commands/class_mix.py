"""How common each class is among the images that a classifier's answers are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from opsin.core.errors import RecipeError
from opsin.core.metadata import ClassMix
from opsin.data.dataset import Dataset
from opsin.data.spelling import nfc

#: The mix among the training images, which is the usual one.
AS_TRAINED = "as-trained"
_SHARES = TypeAdapter(dict[str, float])
# A file of shares for more classes than there may be.
_LARGEST = 10_000_000


def class_mix(asked: str, dataset: Dataset, *, balanced: bool) -> ClassMix | None:
    """Return the mix that answers are to assume; ``None`` where it is that of the training images.

    Args:
        asked: ``as-trained``, ``even``, or a JSON file with a share, or a number, for each class.
        dataset: What is learnt from.
        balanced: Whether the model learnt each class as if all were equally common.

    Raises:
        RecipeError: The file is missing, or says no share above 0 for a class, or names another.

    Example:
        >>> import opsin
        >>> digits = opsin.load("digits", classes=("0", "1"))
        >>> class_mix("even", digits, balanced=False).assumed
        (0.5, 0.5)
    """
    if asked == AS_TRAINED:
        return None
    classes = len(dataset.classes)
    even = np.full(classes, 1 / classes)
    counts = np.bincount(dataset.labels[dataset.split.train], minlength=classes)
    learnt = even if balanced else np.maximum(counts, 1) / np.maximum(counts, 1).sum()
    assumed = even if asked == "even" else _shares_in(Path(asked), dataset.classes)
    return ClassMix(learnt=tuple(learnt.tolist()), assumed=tuple(assumed.tolist()))


def in_words(mix: ClassMix, classes: tuple[str, ...]) -> str:
    """Say what the answers assume."""
    shares = sorted(zip(mix.assumed, classes, strict=True), reverse=True)
    if len({round(share, 6) for share, _ in shares}) == 1:
        return "answers assume that all classes are equally common"
    most = ", ".join(f"{name} {share:.0%}" for share, name in shares[:4])
    return f"answers assume {most}{' …' if len(shares) > 4 else ''}"


def _shares_in(path: Path, classes: tuple[str, ...]) -> NDArray[np.float64]:
    expected = "as-trained, even, or a JSON file with a share above 0 for each class"
    advice = f'Write such a file: {{"{classes[0]}": 0.9, …}}.'
    try:
        if path.stat().st_size > _LARGEST:
            raise RecipeError(expected, f"{path} is too large", advice)
        shares_of = _SHARES.validate_json(path.read_bytes())
    except OSError:
        raise RecipeError(expected, f"got {str(path)!r}, which is no file", advice) from None
    except ValidationError:
        raise RecipeError(expected, f"{path} holds something else", advice) from None
    found = {nfc(name): share for name, share in shares_of.items()}
    wrong = [name for name in classes if not 0 < found.get(nfc(name), 0) < np.inf]
    wrong += [name for name in found if name not in map(nfc, classes)]
    if wrong:
        raise RecipeError(expected, f"{path} says none for {wrong[0]!r}, or it is no class", advice)
    shares = np.array([found[nfc(name)] for name in classes], np.float64)
    return np.asarray(shares / shares.sum(), np.float64)
