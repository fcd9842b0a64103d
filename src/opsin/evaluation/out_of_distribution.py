"""Out-of-distribution detection: the threshold for "none of these", and its quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from opsin.core.arrays import Floats, Ints, Pixels
from opsin.core.artifacts.run_report import OodFigures, StrangeKind
from opsin.core.errors import MissingExtraError
from opsin.evaluation.out_of_fold import OutOfFold

#: Share of images of the known classes that may be refused by mistake; and, where validation
#: images are too few to promise that, at most.
RATE, HIGHEST_RATE = 0.02, 0.05
#: Images of each strange kind.
COUNT: Final = 200
# A length below which a vector has no direction, as in `opsin.onnx_files.postprocessing`.
_NO_LENGTH: Final = 1e-12
# Share of the usual deviation that every unit is taken to have.
_FLOOR: Final = 0.1
# What is drawn is drawn so large, and then made as small as the classifier's images.
_CANVAS: Final = 160
_WORDS: Final = ("quick", "brown", "fox", "jumps", "over", "lazy", "dog", "nobody", "reads", "page")


@dataclass(frozen=True)
class ClassPrototypes:
    """The known classes in a classifier's embedding."""

    # One over each unit's deviation, ``float32[D]``, so that no unit drowns the others; units that
    # hardly vary count as if they varied a tenth as much as the rest.
    scales: Floats
    # Each class's mean scaled embedding, ``float32[K, D]`` of length 1, or zeros without images.
    directions: Floats

    @classmethod
    def of(cls, embeddings: Floats, labels: Ints, classes: int) -> ClassPrototypes:
        """Fit them to training images."""
        exact = embeddings.astype(np.float64)
        variances = exact.var(axis=0)
        scales = 1 / np.sqrt(variances + max(_FLOOR**2 * float(variances.mean()), _NO_LENGTH))
        means = np.zeros((classes, exact.shape[1]))
        for number in np.unique(labels):
            means[number] = (exact[labels == number] * scales).mean(axis=0)
        return cls(scales.astype(np.float32), unit_rows(means).astype(np.float32))

    @classmethod
    def of_images(cls, embeddings: Floats) -> ClassPrototypes:
        """Take each of some images for what is known: the nearest one counts.

        Y. Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022. For
        embeddings whose directions compare images well as they are.
        """
        scales = np.ones(embeddings.shape[1], np.float32)
        return cls(scales, unit_rows(embeddings).astype(np.float32))

    def ood_score(self, embeddings: Floats) -> Floats:
        """Return 1 less the cosine with the nearest class's direction, as the file does."""
        cosines = unit_rows(embeddings * self.scales) @ self.directions.T
        return np.asarray(1 - cosines.max(axis=1), np.float32)


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rows at length 1; those of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _NO_LENGTH))


def choose_threshold(values: Floats) -> tuple[float, float] | None:
    """Choose the largest accepted OOD score, so that few known images are refused.

    By conformal prediction (V. Vovk et al., "Algorithmic learning in a random world", 2005): the
    k-th largest of n values is exceeded by a further one of the same kind with a probability of
    k / (n + 1), whatever their distribution is.
    """
    count = len(values)
    rank = max(1, int(RATE * (count + 1) + 1e-9))
    rate = rank / (count + 1)
    if rate > HIGHEST_RATE + 1e-9:
        return None
    return float(np.partition(values, count - rank)[count - rank]), rate


def strange_images(
    height: int, width: int, channels: int, *, count: int = COUNT, seed: int = 0
) -> dict[str, Pixels]:
    """Make images of no class, always the same."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  slow to import
    except ImportError as error:
        raise MissingExtraError("evaluation", "evaluate") from error
    chance = np.random.default_rng(seed)
    shape = (count, height, width, channels)

    def sized(image: Image.Image) -> Pixels:
        image = image.convert("L" if channels == 1 else "RGB").resize((width, height))
        return np.asarray(image, np.uint8).reshape(shape[1:])

    def drawn(draw: Callable[[np.random.Generator, ImageDraw.ImageDraw, str], None]) -> Pixels:
        images = np.empty(shape, np.uint8)
        for number in range(count):
            dark = bool(chance.integers(2))
            image = Image.new("RGB", (_CANVAS, _CANVAS), "black" if dark else "white")
            draw(chance, ImageDraw.Draw(image), "white" if dark else "black")
            images[number] = sized(image)
        return images

    noise = np.empty(shape, np.uint8)
    for number in range(count):
        grain = 1 if number % 2 else max(1, min(height, width) // 8)
        coarse = (-(-height // grain), -(-width // grain), channels)
        squares = chance.integers(0, 256, coarse, np.uint8)
        noise[number] = squares.repeat(grain, 0).repeat(grain, 1)[:height, :width]
    scans = load_digits().images
    chosen = (15.9375 * scans[chance.permutation(len(scans))[:count]]).astype(np.uint8)
    digits = np.stack([sized(Image.fromarray(scan)) for scan in chosen])
    blank = chance.integers(0, 256, (count, 1, 1, channels), np.uint8)
    return {
        "blank": np.broadcast_to(blank, shape).copy(),
        "noise": noise,
        "text": drawn(_write_page),
        "drawings": drawn(_draw_shapes),
        "digits": digits,
    }


def _write_page(chance: np.random.Generator, pencil: ImageDraw.ImageDraw, colour: str) -> None:
    size, top = int(chance.integers(12, 40)), 2
    font = ImageFont.load_default(size)
    while top < _CANVAS:
        line = " ".join(chance.choice(_WORDS, 6))
        pencil.text((2, top), line, fill=colour, font=font)
        top += size + 4


def _draw_shapes(chance: np.random.Generator, pencil: ImageDraw.ImageDraw, _: str) -> None:
    for _number in range(int(chance.integers(3, 9))):
        ends = chance.integers(0, _CANVAS, 4)
        box = [int(v) for v in (*np.minimum(ends[:2], ends[2:]), *np.maximum(ends[:2], ends[2:]))]
        colour = tuple(int(v) for v in chance.integers(0, 256, 3))
        kind = int(chance.integers(3))
        if kind == 0:
            pencil.line([int(v) for v in ends], fill=colour, width=int(chance.integers(1, 9)))
        elif kind == 1:
            pencil.ellipse(box, outline=colour, width=int(chance.integers(1, 9)))
        else:
            pencil.rectangle(box, fill=colour)


def measure_synthetic_ood(
    known: Floats, strange: Mapping[str, Floats], most: float | None
) -> list[StrangeKind]:
    """Measure how well the OOD score tells strange images from known ones."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  slow to import

    kinds = []
    for name, values in strange.items():
        is_strange = np.repeat([0, 1], [len(known), len(values)])
        auroc = float(roc_auc_score(is_strange, np.concatenate([known, values])))
        refused = None if most is None else float((values > most).mean())
        kinds.append(StrangeKind(name=name, images=len(values), auroc=auroc, refused=refused))
    return kinds


def near_and_far(
    judged: OutOfFold,
    embeddings: Floats,
    labels: Ints,
    classes: Sequence[str],
    *,
    strange: Floats,
    most: float | None,
) -> OodFigures | None:
    """Measure how well a head's OOD score distinguishes unknown images from known ones."""
    present = np.unique(labels)
    if judged.answers.ood_score is None or len(present) < 2:
        return None
    known = ClassPrototypes.of_images(embeddings)
    scores = 1 - known.directions @ known.directions.T
    scores[judged.fold[:, None] == judged.fold] = 2
    # The score of each image if only one class were known.
    nearest = np.stack([scores[:, labels == label].min(axis=1) for label in present], axis=1)
    kinds = []
    for index, label in enumerate(present):
        others = np.delete(nearest, index, axis=1).min(axis=1)
        of_class = labels == label
        kinds += measure_synthetic_ood(others[~of_class], {classes[label]: others[of_class]}, most)
    far_scores = {"far": known.ood_score(strange)}
    (far,) = measure_synthetic_ood(judged.answers.ood_score, far_scores, most)
    near = float(np.mean([kind.auroc for kind in kinds]))
    return OodFigures(near=near, far=far.auroc, classes=kinds)
