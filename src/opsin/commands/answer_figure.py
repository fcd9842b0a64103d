"""Figures of single answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.storage import check_writable
from opsin.data.images import ImageLike, open_image
from opsin.runtime.prediction import Prediction

_DRAWN: Final = (".png", ".svg", ".pdf")


def check_drawing(path: str | os.PathLike[str]) -> Path:
    """Check the path of a figure before any work is done."""
    path = Path(path)
    if path.suffix.lower() not in _DRAWN:
        raise RecipeError(f"{path} does not end in {', '.join(_DRAWN)}")
    check_writable(path)
    return path


@checked
def draw_prediction(
    prediction: Prediction, path: str | os.PathLike[str], image: ImageLike | None = None
) -> Path:
    """Draw an image beside the bars of its probabilities.

    Args:
        prediction: An answer, with the network's pixels.
        path: File to write; its ending decides the format (PNG, SVG, PDF).
        image: The original image, to be shown as well.

    Raises:
        RecipeError: Another ending.
        MissingExtraError: matplotlib is not installed.
        StorageError: The disk refuses the write.
    """
    from opsin.report.figures.run_figures import ShownAnswer, draw_answer  # noqa: PLC0415  needs matplotlib
    from opsin.report.figures.style import save, styled  # noqa: PLC0415

    path = check_drawing(path)
    original = None
    if image is not None:
        upright = open_image(image, prediction.name, side=800)
        original = np.asarray(upright).reshape(upright.height, upright.width, -1)
    refused = prediction.answer if prediction.rejected else ""
    answer = ShownAnswer(
        prediction.pixels, prediction.name, None, prediction.probabilities, refused
    )
    with styled():
        return save(draw_answer(answer, original), path)
