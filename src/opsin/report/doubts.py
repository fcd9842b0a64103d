"""What is said of labels that a classifier doubts: on the page, in the terminal, in the studio."""

from __future__ import annotations

from typing import Any

from opsin.core.format import counted


def labels_title(failures: dict[str, Any]) -> str:
    """Return how many labels are suspected, or that nothing can be said.

    Args:
        failures: What `opsin.commands.find_failures.find_failures` found; runs of earlier versions
            lack
            what their suspects rest on.

    Example:
        >>> labels_title({"suspected": 1, "suspects": []})
        '1 validation label is suspected to be wrong'
    """
    if (failures.get("labels") or {}).get("too_weak"):
        return "Label errors: too weak to tell"
    count = failures.get("suspected", 0)
    if not count:
        return "No wrong labels are suspected"
    return f"{counted(count, 'validation label is', 'validation labels are')} suspected to be wrong"


def labels_grounds(failures: dict[str, Any]) -> str:
    """Return what that rests on: what to expect of the suspects, or why there are none.

    Args:
        failures: As above.
    """
    found = failures.get("labels") or {}
    if found.get("too_weak"):
        return f"The classifier is too weak to tell: {found['too_weak']}."
    if found.get("expected") and failures.get("suspected"):
        return str(found["expected"]["words"])
    if failures.get("suspected"):
        return "Draw the report anew to see what to expect of them."
    return (
        "The answers to the validation images contradict no label more surely than the "
        "classifier's own mistakes explain."
    )
