"""The audit as one self-contained HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.data.audit import Audit, Case
from opsin.report.answer_image import small
from opsin.report.templates import environment

#: Cases of each kind that are shown; ``audit.json`` has all of them.
SHOWN: Final = 18
# Images of one case that are shown: copies beyond these look the same.
_TOGETHER: Final = 4


@dataclass(frozen=True)
class _ShownImages:
    """An image as the page shows it."""

    pixels: NDArray[np.uint8]
    name: str
    label: str
    part: str


def render_audit(audit: Audit) -> str:
    """Return the page: each finding with its images side by side, the worst first."""
    data = audit.dataset
    part_of = np.full(len(data), "train", "<U5")
    for part in ("val", "test"):
        part_of[data.split.rows(part)] = part

    def images(case: Case) -> list[_ShownImages]:
        return [
            _ShownImages(
                small(data.images[row]),
                data.names[row],
                data.classes[data.labels[row]],
                str(part_of[row]),
            )
            for row in case.rows[:_TOGETHER]
        ]

    findings = [
        {
            "finding": finding,
            "cases": [(images(case), len(case.rows), case.note) for case in finding.cases[:SHOWN]],
            "more": max(0, len(finding.cases) - SHOWN),
        }
        for finding in audit.findings
    ]
    page: str = (
        environment()
        .get_template("audit.html")
        .render(
            source=data.recipe.source_names,
            summary=data.summary(),
            fingerprint=data.fingerprint[:16],
            findings=findings,
        )
    )
    return page
