"""The table of metrics: names, computation and display."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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


#: Every metric, in the order in which it is shown.
METRICS: Final[list[Metric]] = [
    Metric("accuracy", "accuracy", lambda scored: scored.accuracy),
    Metric("top5_accuracy", "top-5 accuracy", lambda scored: scored.top5_accuracy),
    Metric("balanced_accuracy", "balanced accuracy", lambda scored: scored.balanced_accuracy,
           over_classes=True),
    Metric("macro_f1", "macro F1", lambda scored: scored.macro_f1, over_classes=True),
    Metric("weighted_f1", "weighted F1", lambda scored: scored.weighted_f1),
    Metric("log_loss", "log loss", lambda scored: scored.log_loss, "nats", headline=True),
    Metric("brier", "Brier score", lambda scored: scored.brier, "0 to 2"),
    Metric("calibration_error", "calibration error", lambda scored: scored.calibration_error,
           headline=True, column="Calib. error"),
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
