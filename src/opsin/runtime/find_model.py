"""What MODEL means: a run directory, a classifier.onnx, or one on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from opsin.core.artifacts.run_directory import find_classifier
from opsin.core.events import SILENT, Watcher
from opsin.hub.hub_name import HubName


def find_model(
    model: str | os.PathLike[str], *, watcher: Watcher = SILENT
) -> tuple[Path, HubName | None]:
    """Return the ``classifier.onnx`` that MODEL means, fetched where it is named on the hub."""
    name = None if os.path.lexists(model) else HubName.prefixed(os.fspath(model))
    if name is None:
        return find_classifier(model), None
    from opsin.hub.hub_fetch import fetch  # noqa: PLC0415
    from opsin.hub.hub_name import Wanted  # noqa: PLC0415  few classifiers are there

    found = fetch(name, Wanted.CLASSIFIER, watcher=watcher)
    if not name.is_pinned:
        watcher.note(f"{name.repository} is at commit {found.where.revision[:12]}")
    return found.path, found.where
