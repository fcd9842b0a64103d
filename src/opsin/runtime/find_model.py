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
    """Return the ``classifier.onnx`` that MODEL means, fetched where it is named on the hub.

    What exists is a path, whatever it is called.

    Args:
        model: A run directory, a ``classifier.onnx``, or ``hf:owner/name[@revision]``.
        watcher: Receives how far a download is, and which commit a branch is at.

    Returns:
        The file; and repository and commit, where it is from the hub.

    Raises:
        RunError: There is no such file or directory, or the run has no classifier.
        RecipeError: It begins with ``hf:`` and is no such name.
        ModelFileError: The hub shows no such repository, or no classifier is in it.
        DownloadError: It could not be fetched.
        MissingExtraError: huggingface_hub is not installed.
    """
    name = None if os.path.lexists(model) else HubName.prefixed(os.fspath(model))
    if name is None:
        return find_classifier(model), None
    from opsin.hub.hub_cache import Wanted  # noqa: PLC0415  few classifiers are there
    from opsin.hub.hub_fetch import fetch  # noqa: PLC0415

    found = fetch(name, Wanted.CLASSIFIER, watcher=watcher)
    if not name.is_pinned:
        watcher.note(f"{name.repository} is at commit {found.where.revision[:12]}")
    return found.path, found.where
