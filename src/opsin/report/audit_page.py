"""The audit as one self-contained HTML page."""

from __future__ import annotations

from typing import Final

import numpy as np

from opsin.data.audit import Audit
from opsin.report.templates import fill

#: Cases of each kind that are shown; ``audit.json`` has all of them.
SHOWN: Final = 18
# Images of one case that are shown: copies beyond these look the same.
_TOGETHER: Final = 4


def render_audit(audit: Audit) -> str:
    """Return the page: each finding with its images side by side, the worst first."""
    data = audit.dataset
    part_of = np.full(len(data), "train", "<U5")
    for part in ("val", "test"):
        part_of[data.split.rows(part)] = part
    return fill("audit.html", data=data, part_of=part_of, findings=audit.findings,
                shown=SHOWN, together=_TOGETHER)  # fmt: skip
