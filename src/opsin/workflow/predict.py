"""Pictures in, answers out, one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from opsin.data.images import ImageLike
from opsin.errors import ImageError
from opsin.predict import Classifier, Prediction


def predict_each(
    classifier: Classifier, images: Sequence[tuple[str, ImageLike]], *, as_is: bool = False
) -> Iterator[Prediction | ImageError]:
    """Yield the answer for each picture, or the reason why there is none.

    Args:
        classifier: An open classifier.
        images: Pairs of a name and a picture.
        as_is: Leave backgrounds as they are.
    """
    for name, image in images:
        try:
            yield classifier.predict(image, as_is=as_is, name=name)
        except ImageError as error:
            yield error


def draw_prediction(prediction: Prediction, path: str | os.PathLike[str]) -> Path:
    """Draw a picture, as the network saw it, beside the bars of its probabilities.

    Args:
        prediction: An answer.
        path: File to write; its ending decides the format (PNG, SVG, PDF).

    Raises:
        MissingExtraError: matplotlib is not installed.
        StorageError: The disk refuses the write.
    """
    from opsin.report.figures.run import Answer, draw_answer  # noqa: PLC0415  needs matplotlib
    from opsin.report.figures.style import save, styled  # noqa: PLC0415

    answer = Answer(prediction.pixels, prediction.name, None, prediction.probabilities)
    with styled():
        return save(draw_answer(answer), Path(path))
