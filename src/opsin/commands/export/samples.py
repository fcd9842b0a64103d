"""Which images show best what a classifier answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.stored_json import JsonObject
from opsin.data.reference_set import ReferenceSet
from opsin.runtime.classifier import Answers, Classifier

# Among the rightly recognised images of a class, in rising order of confidence: sure, and yet
# no extreme.
_PLACE: Final = 0.75


@dataclass(frozen=True)
class Sample:
    """An image and what Opsin answers to it."""

    name: str
    shows: int
    label: str
    probabilities: NDArray[np.float32]  # float32[K]
    pixels: NDArray[np.uint8]  # uint8[H, W, C]
    truth: str

    def to_json(self) -> JsonObject:
        """Return it as plain data, the pixels left out."""
        return {
            "image": self.name,
            "class": self.truth,
            "label": self.label,
            "probabilities": [float(share) for share in self.probabilities],
        }


def choose_samples(
    classifier: Classifier, known: ReferenceSet, rows: NDArray[np.int64], found: Answers
) -> list[Sample]:
    """Choose an image of each class that has any, those rightly recognised first."""
    labels, answered = known.labels[rows], found.probabilities.argmax(axis=1)
    refused = found.rejected(classifier.metadata.reject)
    chosen = []
    for shows in np.unique(labels):
        own = np.flatnonzero(labels == shows)
        right = own[answered[own] == shows]
        if refused is not None:
            right = right[~refused[right]]
        ranked = (right if len(right) else own)[
            np.argsort(found.probabilities[right if len(right) else own, shows], kind="stable")
        ]
        place = ranked[int(_PLACE * (len(ranked) - 1))] if len(right) else ranked[-1]
        row = int(rows[place])
        # Asked once more, alone: what a client is compared with is the answer to one image.
        pixels = np.ascontiguousarray(known.images[row : row + 1])
        probabilities = classifier.answers(pixels).probabilities[0]
        chosen.append(
            Sample(
                name=str(known.names[row]),
                shows=int(shows),
                label=classifier.classes[int(probabilities.argmax())],
                probabilities=probabilities,
                pixels=pixels[0],
                truth=classifier.classes[int(shows)],
            )
        )
    return chosen
