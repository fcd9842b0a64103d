"""Images of nothing that a classifier knows, and whether it says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from opsin.core.artifacts.run_report import OodFigures, StrangeKind
from opsin.core.errors import MissingExtraError
from opsin.evaluation.out_of_fold import OutOfFold
from opsin.evaluation.reject import ClassPrototypes

try:
    from sklearn.datasets import load_digits
    from sklearn.metrics import roc_auc_score
except ImportError as error:
    raise MissingExtraError("evaluation", "evaluate") from error

#: Images of each kind.
COUNT: Final = 200
# What is drawn is drawn so large, and then made as small as the classifier's images.
_CANVAS: Final = 160
_WORDS: Final = ("quick", "brown", "fox", "jumps", "over", "lazy", "dog", "nobody", "reads", "page")

_Draw = Callable[[np.random.Generator, ImageDraw.ImageDraw, str], None]


def strange_images(
    height: int, width: int, channels: int, *, count: int = COUNT, seed: int = 0
) -> dict[str, NDArray[np.uint8]]:
    """Make images that belong to no class, the same ones each time.

    Args:
        height: H.
        width: W.
        channels: C, 1 or 3.
        count: N, images of each kind.
        seed: Decides what is drawn.

    Returns:
        By kind, ``uint8[N, H, W, C]`` each: ``blank`` (one colour), ``noise`` (each pixel by
        chance, coarse or fine), ``text`` (a page of words), ``drawings`` (lines and shapes) and
        ``digits`` (scikit-learn's handwritten ones).

    Example:
        >>> {name: made.shape for name, made in strange_images(8, 9, 3, count=2).items()}["text"]
        (2, 8, 9, 3)
    """
    chance = np.random.default_rng(seed)
    shape = (count, height, width, channels)

    def drawn(
        draw: Callable[[np.random.Generator, ImageDraw.ImageDraw, str], None],
    ) -> NDArray[np.uint8]:
        images = np.empty(shape, np.uint8)
        for number in range(count):
            dark = bool(chance.integers(2))
            image = Image.new("RGB", (_CANVAS, _CANVAS), "black" if dark else "white")
            draw(chance, ImageDraw.Draw(image), "white" if dark else "black")
            images[number] = _sized(image, height, width, channels)
        return images

    grain = np.where(np.arange(count) % 2, 1, max(1, min(height, width) // 8))
    noise = np.empty(shape, np.uint8)
    for number, size in enumerate(grain):
        coarse = chance.integers(
            0, 256, (-(-height // size), -(-width // size), channels), np.uint8
        )
        noise[number] = coarse.repeat(size, 0).repeat(size, 1)[:height, :width]
    scans = load_digits().images
    chosen = chance.permutation(len(scans))[:count]
    digits = np.stack([
        _sized(Image.fromarray((scans[row] * 15.9375).astype(np.uint8)), height, width, channels)
        for row in chosen
    ])  # fmt: skip
    return {
        "blank": np.broadcast_to(
            chance.integers(0, 256, (count, 1, 1, channels), np.uint8), shape
        ).copy(),
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


def measure_strangers(
    known: NDArray[np.float32],
    strange: Mapping[str, NDArray[np.float32]],
    most: float | None,
) -> list[StrangeKind]:
    """Measure how well the OOD score tells strange images from known ones.

    Args:
        known: OOD scores of images of the known classes, ``float32[N]``.
        strange: The same of each kind of strange images.
        most: Largest score that gets an answer; ``None`` where nothing is refused.

    Returns:
        Of each kind ``auroc``, the probability that a strange image has a larger score than a
        known one (0.5 is chance), and ``refused``, the share of it that gets "none of these".

    Example:
        >>> blank = np.array([0.9], np.float32)
        >>> measure_strangers(np.array([0.2, 0.1], np.float32), {"blank": blank}, 0.5)
        [StrangeKind(name='blank', images=1, auroc=1.0, refused=1.0)]
    """
    found = []
    for name, values in strange.items():
        is_strange = np.concatenate([np.zeros(len(known)), np.ones(len(values))])
        found.append(
            StrangeKind(
                name=name,
                images=len(values),
                auroc=float(roc_auc_score(is_strange, np.concatenate([known, values]))),
                refused=None if most is None else float((values > most).mean()),
            )
        )
    return found


def near_and_far(
    judged: OutOfFold,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    strange: NDArray[np.float32],
    most: float | None,
) -> OodFigures | None:
    """Measure how well a head's OOD score distinguishes unknown images from known ones.

    Near: each class is left out in turn, and its images are the unknown ones. Far: images of
    nothing that anybody would sort. An image is compared with those of other folds alone, and so
    has the score that it has for a head that has not seen it.

    Args:
        judged: The answers to the images, with their folds and OOD scores.
        embeddings: Of these images, ``float32[M, D]``.
        labels: Their classes, ``int64[M]``.
        classes: K names.
        strange: Embeddings of strange images, ``float32[S, D]``.
        most: As for `measure_strangers`.

    Returns:
        ``None`` where there are no OOD scores, or images of one class alone.
    """
    present = np.unique(labels)
    if judged.answers.ood_score is None or len(present) < 2:
        return None
    known = ClassPrototypes.of_images(embeddings)
    scores = 1 - known.directions @ known.directions.T
    scores[judged.fold[:, None] == judged.fold] = 2
    # The score of each image if only one class were known.
    nearest = np.stack([scores[:, labels == label].min(axis=1) for label in present], axis=1)
    found = []
    for place, label in enumerate(present):
        others = np.delete(nearest, place, axis=1).min(axis=1)
        own = labels == label
        found += measure_strangers(others[~own], {classes[label]: others[own]}, most)
    (far,) = measure_strangers(judged.answers.ood_score, {"far": known.ood_score(strange)}, most)
    near = float(np.mean([each.auroc for each in found]))
    return OodFigures(near=near, far=far.auroc, classes=found)


def _sized(image: Image.Image, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    sized = image.convert("L" if channels == 1 else "RGB").resize((width, height))
    return np.asarray(sized, np.uint8).reshape(height, width, channels)
