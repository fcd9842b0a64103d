"""The verb `explain`: what a layer does, with the real numbers of one image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opsin.commands.inspect_model import Inspection
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import refuse_swapped
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.stored_json import JsonObject
from opsin.data.images import ImageLike
from opsin.inspection.lessons.lesson_terms import Term
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction

if TYPE_CHECKING:
    from opsin.inspection.lessons.explain_layer import Lesson


@checked
@dataclass(frozen=True)
class Explained:
    """What `explain` found; parts that were not asked for are ``None``.

    Args:
        model: The file looked into.
        terms: What there are lessons about in this network, each with its layers.
        answer: The answer to the image.
        lesson: What the layer does to it: ``layer``, ``kind`` and the numbers.
    """

    model: Path
    terms: dict[Term, tuple[str, ...]]
    answer: Prediction | None = None
    lesson: Lesson | None = None

    def to_json(self) -> JsonObject:
        """Return all of it as plain data."""
        return {
            "model": str(self.model),
            "terms": {term: list(layers) for term, layers in self.terms.items()},
            "answer": None if self.answer is None else self.answer.to_json(),
            "lesson": None if self.lesson is None else self.lesson.to_json(),
        }


@checked
def explain(
    model: str | os.PathLike[str] | Classifier,
    term: Term | None = None,
    image: ImageLike | None = None,
    *,
    layer: str | None = None,
    data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    watcher: Watcher = SILENT,
) -> Explained:
    """Show what a layer of a classifier does, with its real numbers for one image.

    Args:
        model: A run directory, a ``classifier.onnx`` or an open classifier.
        term: ``convolution``, ``pooling``, ``batch-normalisation``, ``dropout`` or ``softmax``
            (default: say which of them this network has).
        image: An image, or the name of one of its known images (default: the first of its test
            images).
        layer: Name of the layer (default: the first one of that kind).
        data: Images with labels to choose the image from (default: those of its run).
        watcher: Receives the progress of the work.

    Raises:
        RecipeError: An image or a layer without a term.
        ModelFileError: The network has no such layer.
        ImageError: The image cannot be read.
        SourceError: No image is given, and there are none.
        MissingExtraError: What reads the graph is not installed.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> opsin.explain(run).terms
        {'dropout': ('head',), 'softmax': ('head',)}
        >>> lesson = opsin.explain(run, "softmax").lesson
        >>> lesson.logits.shape, lesson.temperature > 0
        ((10,), True)
    """
    refuse_swapped(model, [image], "opsin explain {model} {images}")
    if term is None and (image is not None or layer is not None):
        raise RecipeError(
            f"a term with {'a layer' if image is None else 'an image'}",
            "got none",
            "Name one: --term softmax, for example.",
        )
    look = Inspection(model, data=data, watcher=watcher)
    if term is None:
        return Explained(look.classifier.path, look.terms())
    answer = look.predict(look.first_image if image is None else image)
    return Explained(look.classifier.path, look.terms(), answer, look.lesson(term, answer, layer))
