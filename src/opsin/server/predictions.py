"""The answers of ``/predict`` as JSON."""

from __future__ import annotations

import math
from typing import Annotated, Literal, NotRequired

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict

from opsin.data.blank_images import warning_among
from opsin.runtime.prediction import NONE_OF_THESE
from opsin.server.form import Upload
from opsin.server.http_errors import error_object
from opsin.server.predict_options import PredictOptions
from opsin.server.predict_requests import PredictResult, Result
from opsin.server.served_model import ServedModel
from opsin.web.refusals import Error

Share = Annotated[float, Field(ge=0, le=1)]


class ClassScore(TypedDict):
    """A class and its probability."""

    label: str
    score: Share


class StrongestFall(TypedDict):
    """Where the probability falls most."""

    row: int
    column: int
    fall: float


class Explanation(TypedDict):
    """By how much the label's probability falls where a part is hidden."""

    method: Literal["occlusion"]
    heat: list[list[float]]
    strongest: StrongestFall


class ImagePrediction(TypedDict):
    """The answer for one image, or the error that stands in its place."""

    name: Annotated[str, Field(description="The file's name where one was given.")]
    answer: NotRequired[Annotated[str, Field(description='The label, or "none of these".')]]
    label: NotRequired[Annotated[str, Field(description="The most probable class.")]]
    confidence: NotRequired[Annotated[Share, Field(description="Its probability.")]]
    rejected: NotRequired[
        Annotated[
            bool | None,
            Field(
                description="Whether the image is like none of the training images; null: the "
                "file has no threshold, and so cannot tell."
            ),
        ]
    ]
    ood_score: NotRequired[
        Annotated[
            float | None,
            Field(description="How unlike them it is, 0 (alike) to 2; null: the file cannot tell."),
        ]
    ]
    top: NotRequired[list[ClassScore]]
    notes: NotRequired[list[str]]
    warning: NotRequired[
        Annotated[
            str | None,
            Field(
                description="Why the answer means nothing, where the image has no contrast, is "
                "a smooth gradient or noise; without contrast there is no explanation either."
            ),
        ]
    ]
    probabilities: NotRequired[
        Annotated[dict[str, Share], Field(description="With all=true: of every class.")]
    ]
    embedding: NotRequired[
        Annotated[
            list[float | None] | None,
            Field(description="With embedding=true: what the last layer sees."),
        ]
    ]
    explanation: NotRequired[
        Annotated[
            Explanation,
            Field(
                description="With explain=true: by how much the label's probability falls where a "
                "part is hidden, for each pixel of the network's input, and where it falls most."
            ),
        ]
    ]
    error: NotRequired[Error]


class Predictions(TypedDict):
    """The answers to a request."""

    model: str
    digest: Annotated[str, Field(description="SHA-256 of the file that answered.")]
    predictions: list[ImagePrediction]


def image_prediction(
    upload: Upload, result: Result, served: ServedModel, options: PredictOptions
) -> ImagePrediction:
    """Return what a reply says about one image."""
    if not isinstance(result, PredictResult):
        return {"name": upload.name, "error": error_object(result)}
    classes = served.metadata.classes
    order = np.argsort(-result.probabilities, kind="stable").tolist()
    shares = result.probabilities.tolist()
    label = classes[order[0]]
    ood_score = result.ood_score
    found: ImagePrediction = {
        "name": upload.name,
        "warning": warning_among(result.notes),
        "answer": NONE_OF_THESE if result.rejected else label,
        "label": label,
        "confidence": shares[order[0]],
        "rejected": result.rejected,
        "ood_score": (ood_score if ood_score is not None and math.isfinite(ood_score) else None),
        "top": [
            {"label": classes[place], "score": shares[place]} for place in order[: options.top]
        ],
        "notes": list(result.notes),
    }
    if options.all:
        found["probabilities"] = dict(zip(classes, shares, strict=True))
    if options.embedding:
        found["embedding"] = None if result.embedding is None else _numbers(result.embedding)
    if options.explain and result.heat is not None:
        found["explanation"] = explanation(result.heat)
    return found


def explanation(heat: NDArray[np.float32]) -> Explanation:
    """Return an occlusion map as plain data, with the place that matters most.

    Args:
        heat: By how much the answer's probability falls where a part is hidden, ``float32[H, W]``.
    """
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    rounded = np.round(heat.astype(np.float64), 5)
    return {
        "method": "occlusion",
        "heat": rounded.tolist(),
        "strongest": {"row": row, "column": column, "fall": float(rounded[row, column])},
    }


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    """Return numbers as JSON can say them: what is not finite becomes ``null``."""
    listed = values.tolist()
    if np.isfinite(values).all():
        return listed  # type: ignore[no-any-return]
    return [value if math.isfinite(value) else None for value in listed]
