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
    """Make images that belong to no class, the same ones each time."""
    chance = np.random.default_rng(seed)
    shape = (count, height, width, channels)

    def drawn(
        draw: _Draw,
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


def measure_synthetic_ood(
    known: NDArray[np.float32],
    strange: Mapping[str, NDArray[np.float32]],
    most: float | None,
) -> list[StrangeKind]:
    """Measure how well the OOD score tells strange images from known ones."""
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
    """Measure how well a head's OOD score distinguishes unknown images from known ones."""
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
        found += measure_synthetic_ood(others[~own], {classes[label]: others[own]}, most)
    (far,) = measure_synthetic_ood(
        judged.answers.ood_score, {"far": known.ood_score(strange)}, most
    )
    near = float(np.mean([each.auroc for each in found]))
    return OodFigures(near=near, far=far.auroc, classes=found)


def _sized(image: Image.Image, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    sized = image.convert("L" if channels == 1 else "RGB").resize((width, height))
    return np.asarray(sized, np.uint8).reshape(height, width, channels)
