"""A run's layers and answers, from its files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.errors import RunError

if TYPE_CHECKING:
    from opsin.run import RunDirectory

#: Mistakes that are offered, the surest.
MISTAKES: Final = 60


@dataclass(frozen=True)
class Judged:
    """What is known of a finished run without asking its classifier.

    Args:
        layers: Of ``report.json``: ``name``, ``kind``, ``shape``, ``parameters``; runs of earlier
            versions have none.
        part: The part that it was measured on: ``test`` or ``val``.
        rows: Rows of its pictures, ``int64[N]``.
        labels: Their classes, ``int64[N]``.
        probabilities: The answers, ``float32[N, K]``.
    """

    layers: list[dict[str, Any]]
    part: str
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def mistakes(self) -> list[int]:
        """Return the places of the mistakes, the surest first."""
        answers = self.probabilities.argmax(axis=1)
        wrong = np.flatnonzero(answers != self.labels)
        order = np.argsort(-self.probabilities[wrong, answers[wrong]], kind="stable")
        places: list[int] = wrong[order][:MISTAKES].tolist()
        return places


def read_judged(directory: RunDirectory) -> Judged:
    """Read a run's report and its answers.

    Raises:
        RunError: It has none yet, or they are damaged.
    """
    if not directory.classifier.is_file() or not directory.report.is_file():
        raise RunError(
            "a run with a classifier", "this one has none yet", "Wait for its end, or resume it."
        )
    report, arrays = directory.read(directory.report), directory.load_arrays(directory.predictions)
    try:
        part = str(report["split"])
        rows, labels, shares = (
            arrays[f"{part}_{name}"] for name in ("rows", "labels", "probabilities")
        )
        layers = [dict(layer) for layer in report.get("layers", ())]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            "a run's report and answers", "its files are damaged", "Evaluate the run again."
        ) from error
    return Judged(layers, part, rows, labels, shares)
