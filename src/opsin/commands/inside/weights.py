"""What the layers have learnt, and how their weights grew while they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opsin.core.artifacts.run_directory import RunDirectory
from opsin.inspection.weights import weight_views
from opsin.runtime.classifier import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["norm_history", "weight_figures", "weight_views"]


def norm_history(classifier: Classifier) -> list[dict[str, Any]]:
    """Return the epochs of the training that the file came from, each with its ``norms``.

    Epochs without them, as runs of earlier versions have, are left out; of a file that lies in no
    run nothing is known.

    Args:
        classifier: An open classifier.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=2, runs=tempfile.mkdtemp(), quiet=True)
        >>> [sorted(epoch["norms"]) for epoch in norm_history(run.classifier())]
        [['dense1', 'head'], ['dense1', 'head']]
    """
    directory = RunDirectory(classifier.path.parent)
    if not directory.history.is_file():
        return []
    return [epoch for epoch in directory.read_history() if epoch.get("norms")]


def weight_figures(history: Sequence[dict[str, Any]]) -> dict[str, Callable[[], Figure]]:
    """Return what draws each figure of the weights, by name; none without a history of norms.

    Args:
        history: What `norm_history` returned.
    """
    from opsin.report.figures.inspection_charts import draw_norms, norms_of  # noqa: PLC0415  matplotlib

    if len(norms_of(history)[0]) < 2:
        return {}
    return {"norms": lambda: draw_norms(history)}
