"""Kinds of images on which a classifier is worse than on the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.data import quality
from opsin.data.lazy_images import Images
from opsin.evaluation.intervals import wilson

try:
    from scipy.stats import hypergeom
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

#: Slices of fewer images are shown and not judged: at 30, the interval of 0.9 spans 0.2.
LEAST: Final = 30
_BINS: Final = 5
# A column with more values than this stands for no kinds of images, unless it holds numbers.
_VALUES: Final = 50
_LEVEL: Final = 0.05
_BLOCK_PIXELS: Final = 8_000_000


def measure_traits(
    images: Images,
    rows: NDArray[np.int64],
    sizes: NDArray[np.int32] | None = None,
    *,
    watcher: Watcher = SILENT,
) -> dict[str, NDArray[np.float64]]:
    """Measure what images can be sliced by.

    Args:
        images: ``uint8[N, H, W, C]``
        rows: Which of them, ``int64[M]``.
        sizes: Height and width of each before it was prepared, ``int32[N, 2]``, where known.
        watcher: Is told how far the work is.

    Returns:
        For each trait ``float64[M]``. ``brightness``: mean, 0 to 255. ``contrast``: standard
        deviation of the brightness. ``sharpness``: mean absolute Laplacian over the contrast.
        ``size``: root of height times width in pixels, where the images differ in it.

    Example:
        >>> grey = np.full((2, 8, 8, 1), 100, np.uint8)
        >>> measure_traits(grey, np.array([1]))["brightness"]
        array([100.])
    """
    _, height, width, _ = images.shape
    step = max(1, _BLOCK_PIXELS // (height * width))
    parts: list[tuple[NDArray[Any], ...]] = []
    watcher.begin("Measure", len(rows), "images")
    for start in range(0, len(rows), step):
        pixels = images[rows[start : start + step]]
        seen = quality.measure(pixels)
        light = pixels.reshape(len(pixels), -1).mean(axis=1)
        parts.append((light, seen.contrast, seen.sharpness))
        watcher.advance(start + len(pixels))
    watcher.end()
    names = ("brightness", "contrast", "sharpness")
    empty = np.zeros(0)
    traits = {
        name: np.concatenate([empty, *(part[place] for part in parts)])
        for place, name in enumerate(names)
    }
    if sizes is not None and len(np.unique(sizes[rows], axis=0)) > 1:
        traits["size"] = np.sqrt(sizes[rows].astype(np.float64).prod(axis=1))
    return traits


def slice_accuracy(
    right: NDArray[np.bool_],
    traits: Mapping[str, NDArray[np.float64]],
    columns: Mapping[str, Sequence[str]] | None = None,
    *,
    labels: NDArray[np.int64] | None = None,
    least: int = LEAST,
    too_weak: str = "",
) -> dict[str, Any]:
    """Measure the accuracy of every slice, and name those that are shown to be worse.

    Numbers are cut at their quintiles, equal ones staying together; a column's values stand for
    themselves. A slice is *weak* when its 95% interval lies below the accuracy of all images,
    and so many mistakes in it would be drawn by chance from among all images with a probability
    below 0.05 (Fisher's exact test, one-sided), times the number of slices that compete for it:
    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979. So with no real difference, a slice is named in at most one of twenty reports.

    Args:
        right: Whether each answer was right, ``bool[N]``, N at least 1.
        traits: Numbers of each image, ``float64[N]`` each, as `measure_traits` gives them.
        columns: Texts of each image, ``""`` for none: groups, or columns of a table.
        labels: ``int64[N]``: with them each slice says what its classes alone would explain.
        least: Number of images below which a slice is not judged.
        too_weak: Why the answers are no evidence against any slice, if they are none
            (`opsin.evaluation.evidence.too_weak`): then none is weak.

    Returns:
        ``images``, ``accuracy``, ``low``, ``high``: of all images. ``judged``: how many slices
        were, and so are corrected for. ``traits``: for each its ``name`` and its ``slices``, those
        of numbers from low to high, of texts from many images to few. Each of these has ``name``
        (``brightness 12 to 31``), ``from`` and ``to`` or ``value``, ``images``, ``right``,
        ``accuracy``, ``low``, ``high``, ``p`` (corrected; ``None`` where not judged), ``weak``,
        ``expected`` (mean accuracy of its images' classes, or ``None``) and ``explained``
        (whether its accuracy may be just that). ``weakest``: the weak slices, each with its
        ``trait``, first those that their classes do not explain, the lowest accuracy first. A
        trait in which all images are alike is left out. ``too_weak``: as given.

    Example:
        >>> right = np.arange(200) >= 30
        >>> found = slice_accuracy(right, {"brightness": np.arange(200) / 2})
        >>> [(each["name"], each["accuracy"]) for each in found["weakest"]]
        [('brightness 0 to 19.5', 0.25)]
    """
    total, correct = len(right), int(right.sum())
    overall = correct / total
    low, high = wilson(correct, total)
    expected = None if labels is None else _class_accuracy(right, labels)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, members in _all_slices(traits, columns or {}):
        rows = members.pop("rows")
        count, hits = len(rows), int(right[rows].sum())
        below, above = wilson(hits, count)
        members |= {
            "images": count,
            "right": hits,
            "accuracy": hits / count,
            "low": below,
            "high": above,
            "p": None,
            "weak": False,
            "expected": None,
            "explained": False,
        }
        if expected is not None:
            members["expected"] = float(expected[rows].mean())
            members["explained"] = members["expected"] <= above
        if least <= count < total:
            # As many mistakes, or more, among so many images drawn from all of them.
            chance = hypergeom.sf(count - hits - 1, total, total - correct, count)
            members["p"] = float(chance)
        found.setdefault(name, []).append(members)
    found = {name: slices for name, slices in found.items() if len(slices) > 1}
    judged = [(name, each) for name, slices in found.items() for each in slices
              if each["p"] is not None]  # fmt: skip
    corrected = holm(np.array([each["p"] for _, each in judged]))
    for (_, each), chance in zip(judged, corrected, strict=True):
        each["p"] = float(chance)
        each["weak"] = bool(not too_weak and chance < _LEVEL and each["high"] < overall)
    weak = [{"trait": name, **each} for name, each in judged if each["weak"]]
    return {
        "images": total,
        "accuracy": overall,
        "low": low,
        "high": high,
        "judged": len(judged),
        "too_weak": too_weak,
        "traits": [{"name": name, "slices": slices} for name, slices in found.items()],
        "weakest": sorted(weak, key=lambda each: (each["explained"], each["accuracy"])),
    }


def holm(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct p-values for their number, as S. Holm (1979) does.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    order = np.argsort(chances, kind="stable")
    factors = len(chances) - np.arange(len(chances))
    corrected = np.empty(len(chances))
    corrected[order] = np.minimum(1, np.maximum.accumulate(chances[order] * factors))
    return corrected


def _class_accuracy(right: NDArray[np.bool_], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the accuracy of each image's class, ``float64[N]``."""
    counts = np.maximum(np.bincount(labels), 1)
    accuracy: NDArray[np.float64] = np.bincount(labels, weights=right) / counts
    return accuracy[labels]


def _all_slices(
    traits: Mapping[str, NDArray[np.float64]], columns: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each slice with its trait, its name and its ``rows``."""
    for name, values in traits.items():
        yield from ((name, each) for each in _bins(name, values))
    for name, texts in columns.items():
        distinct = sorted(set(texts) - {""})
        if 1 < len(distinct) <= _VALUES:
            array = np.array(texts, object)
            by_text = {text: np.flatnonzero(array == text) for text in distinct}
            for text, rows in sorted(by_text.items(), key=lambda item: -len(item[1])):
                yield name, {"name": f"{name} {text}", "value": text, "rows": rows}
        elif len(distinct) > _VALUES and (numbers := _as_numbers(texts)) is not None:
            yield from ((name, each) for each in _bins(name, numbers))


def _as_numbers(texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Return texts as numbers, ``nan`` for none; ``None`` where one is no number."""
    try:
        numbers = np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return None
    return None if np.isinf(numbers).any() else numbers


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _bins(name: str, values: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    """Cut numbers at their quintiles; equal ones stay together, ``nan`` is in no bin."""
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        return
    # Equal cuts become one, and a cut at the lowest value parts nothing.
    cuts = np.unique(np.quantile(values[known], np.arange(1, _BINS) / _BINS))
    places = np.searchsorted(cuts, values[known], side="right")
    for place in np.unique(places):
        rows = known[places == place]
        low, high = float(values[rows].min()), float(values[rows].max())
        span = _short(low) if low == high else f"{_short(low)} to {_short(high)}"
        yield {"name": f"{name} {span}", "from": low, "to": high, "rows": rows}
