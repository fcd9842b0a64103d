"""A classifier's file as others get it, and files that let it run where there is no Opsin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import numpy as np

from opsin.commands.runs import Run
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import ParityError
from opsin.core.metadata import Metadata
from opsin.core.recipe import DataRecipe
from opsin.core.stored_json import json_text
from opsin.runtime.classifier import Classifier

#: File of checksums.
SUMS: Final = "SHA256SUMS"
# Images that the written file and the classifier answer to alike.
_COMPARED: Final = 8


def for_others(classifier: Classifier) -> bytes:
    """Return the file without folders and notes of this machine; what it answers stays the same."""
    from opsin.onnx_files.postprocessing import finished, without_notes  # noqa: PLC0415  onnx

    own, path = classifier.metadata, classifier.path
    if (directory := run_of(classifier)) is not None:
        source = Run(directory.path).recipe.data.source_names
    else:
        sources, _, test = own.source.partition(" · test: ")
        source = DataRecipe.of(*sources.split(" + "), test=test or None).source_names
    named = own.model_copy(update={"source": source})
    content = without_notes(finished(classifier.content, named))
    written = Classifier.of_content(path, content, most=classifier.most)
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


def run_of(classifier: Classifier) -> RunDirectory | None:
    """Return the run that a file is the classifier of; ``None`` where it lies elsewhere."""
    directory = RunDirectory(classifier.path.parent)
    own = directory.classifier == classifier.path and directory.recipe.is_file()
    return directory if own else None


def client(name: str) -> bytes:
    """Return a program that classifies images, or what belongs to it."""
    return (resources.files("opsin.commands.export") / "clients" / name).read_bytes()


def classes_json(metadata: Metadata) -> bytes:
    """Return what clients read: the classes in their order, and how images are prepared."""
    like = metadata.preparation
    about = {
        "classes": list(metadata.classes),
        "height": like.height,
        "width": like.width,
        "channels": like.channels,
        "resize": like.resize,
        **({} if like.bits is None else {"bits": like.bits}),
        "reject": None if metadata.reject is None else metadata.reject.max_ood_score,
    }
    return json_bytes(about)


def json_bytes(content: Any) -> bytes:
    """Return plain data as a file that people can read."""
    return (json_text(content, indent=1) + "\n").encode("utf-8", "backslashreplace")


def checksums(files: Mapping[str, bytes]) -> bytes:
    """Return the lines that ``sha256sum --check`` reads, in the order of the names."""
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return "".join(lines).encode()
