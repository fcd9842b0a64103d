"""A classifier's file as others get it: without what it says of this machine."""

from __future__ import annotations

from typing import Final

import numpy as np

from opsin.commands.runs import Run
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ParityError
from opsin.core.recipe import DataRecipe
from opsin.runtime.classifier import Classifier

# Images that the written file and the classifier answer to alike.
_COMPARED: Final = 8


def for_others(classifier: Classifier) -> bytes:
    """Return the file without folders and notes of this machine; what it answers stays the same."""
    from opsin.onnx_files.makers_notes import without_notes  # noqa: PLC0415  needs onnx
    from opsin.onnx_files.postprocessing import finished  # noqa: PLC0415

    own = classifier.metadata
    named = own.model_copy(update={"source": _source_names(classifier)})
    content = without_notes(finished(classifier.content, named))
    written = Classifier.of_content(classifier.path, content, most=classifier.most)
    like = own.preparation
    shape = (_COMPARED, like.height, like.width, like.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    apart = np.abs(classifier.probabilities(images) - written.probabilities(images)).max()
    if not apart == 0:
        raise ParityError(
            "the same answers from the file without its notes",
            f"probabilities differ by up to {apart:.2g}",
            "Please report this; nothing was written.",
        )
    return content


def _source_names(classifier: Classifier) -> str:
    """Return what it learned from, without the folders: as its run has it, or as its file says."""
    directory = RunDirectory(classifier.path.parent)
    if directory.classifier == classifier.path and directory.recipe.is_file():
        return Run(directory.path).recipe.data.source_names
    sources, _, test = classifier.metadata.source.partition(" · test: ")
    return DataRecipe.of(*sources.split(" + "), test=test or None).source_names
