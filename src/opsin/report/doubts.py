"""Sentences on suspected labels, for page, terminal and studio."""

from __future__ import annotations

from opsin.core.artifacts.run_report import Failures, LabelEvidence
from opsin.core.format import counted


def labels_title(failures: Failures) -> str:
    """Return the number of suspected labels in words."""
    if failures.labels and failures.labels.too_weak:
        return "Label errors: too weak to tell"
    count = failures.suspected
    if not count:
        return "No wrong labels are suspected"
    return f"{counted(count, 'label is', 'labels are')} suspected to be wrong"


def labels_grounds(suspected: int, labels: LabelEvidence | None) -> str:
    """Return the evidence behind suspected labels, or why there are none."""
    if labels and labels.too_weak:
        return f"The classifier is too weak to tell: {labels.too_weak}."
    if suspected and labels and labels.expected:
        return labels.expected.words
    if suspected:
        return "Draw the report anew to see what to expect of them."
    return (
        "The answers to images that it had not learnt from contradict no label more surely than "
        "its own mistakes explain."
    )
