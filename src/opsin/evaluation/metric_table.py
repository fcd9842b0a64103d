"""The table of metrics: names, computation and display."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from opsin.core.artifacts.records import Stored
from opsin.core.artifacts.run_report import PartFigures
from opsin.core.format import with_interval

#: A metric's value, and its 95% interval where it is known.
Scored = tuple[float, tuple[float, float] | None]


@dataclass(frozen=True)
class Metric:
    """A figure of a classifier's answers; reports, model cards and the studio show each one."""

    key: str  # its name in ``report.json`` and in ``--json``
    name: str  # what people call it
    # Takes a `ScoredAnswers`; returns the value and its 95% interval (``None`` where there is
    # none), or ``None`` where the metric does not apply.
    compute: Callable[..., Scored | None]
    unit: str = ""  # its unit, or its range
    headline: bool = False  # whether summaries and comparisons name it beside the accuracy
    over_classes: bool = False  # whether it is a mean over the classes that have images
    column: str = ""  # its name above a narrow column, where that is a shorter one

    @property
    def heading(self) -> str:
        """Its name above a column."""
        return f"{self.name[0].upper()}{self.name[1:]}"

    @property
    def title(self) -> str:
        """Its name at the beginning of a row, with its unit."""
        return f"{self.heading}{f' ({self.unit})' if self.unit else ''}"

    def value(self, figures: Stored) -> float | None:
        """Return its value among some figures, of this version or an older one, where known."""
        value = getattr(figures, self.key, None)
        return value if isinstance(value, int | float) else None

    def interval(self, figures: PartFigures) -> tuple[float, float] | None:
        """Return its 95% interval among some figures, where it is known."""
        if ends := figures.intervals.get(self.key):
            return ends[0], ends[1]
        return (figures.low, figures.high) if self.key == "accuracy" else None

    def text(self, figures: PartFigures) -> str:
        """Return its value among some figures with the interval, four digits each."""
        return with_interval(self.value(figures), *(self.interval(figures) or ()))

    def summary(self, figures: PartFigures) -> str:
        """Return its name and its value in three digits."""
        return f"{self.name} {self.value(figures):.3f}"


def _top5(scored: Any) -> Scored | None:
    if scored.probabilities.shape[1] <= 5:
        return None
    of_labels = scored.of_labels[:, None]
    ranked: Scored = scored.share((scored.probabilities >= of_labels).sum(axis=1) <= 5)
    return ranked


# Below this a probability counts as this, as in scikit-learn's log loss of float32.
_TINY: Final = float(np.finfo(np.float32).eps)
#: Every metric, in the order in which it is shown.
METRICS: Final[list[Metric]] = [
    Metric("accuracy", "accuracy", lambda scored: scored.share(scored.answers == scored.labels)),
    Metric("top5_accuracy", "top-5 accuracy", _top5),
    Metric("balanced_accuracy", "balanced accuracy", lambda scored: scored.mean_over_classes(0),
           over_classes=True),
    Metric("macro_f1", "macro F1", lambda scored: scored.mean_over_classes(1), over_classes=True),
    Metric("weighted_f1", "weighted F1", lambda scored: scored.mean_over_classes(2)),
    Metric("log_loss", "log loss",
           lambda scored: scored.mean(-np.log(np.maximum(scored.of_labels, _TINY).astype(float))),
           "nats", headline=True),
    Metric("brier", "Brier score", lambda scored: scored.mean(scored.brier_terms), "0 to 2"),
    Metric("calibration_error", "calibration error",
           lambda scored: (scored.calibration_error, None), headline=True, column="Calib. error"),
]  # fmt: skip


def known_metrics(figures: PartFigures) -> list[Metric]:
    """Return the metrics that some figures, even of an older version, have a value for."""
    return [metric for metric in METRICS if metric.value(figures) is not None]


def headline_metrics() -> list[Metric]:
    """Return the metrics that are named beside the accuracy."""
    return [metric for metric in METRICS if metric.headline]


def summary_of(figures: PartFigures) -> str:
    """Return the headline metrics beside the accuracy in one line."""
    return " · ".join(
        metric.summary(figures)
        for metric in known_metrics(figures)
        if metric.headline or (figures.uneven and metric.key == "balanced_accuracy")
    )
