"""The verbs `inspect` and `explain`: plain data, and for `inspect` a page."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opsin.commands.inspect_model import Insight, Inspection
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import check_writable
from opsin.core.stored_json import JsonObject
from opsin.data.images import ImageLike
from opsin.inspection.lessons.lesson_terms import Term
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction

if TYPE_CHECKING:
    from opsin.inspection.lessons.lesson_layers import Lesson


@checked
def inspect(
    model: str | os.PathLike[str] | Classifier,
    image: ImageLike | None = None,
    *,
    layers: Sequence[str] = (),
    data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str] = (),
    label: str | None = None,
    explain: bool = False,
    ablate: bool = False,
    probes: bool = False,
    portraits: bool = False,
    as_is: bool = False,
    save: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Insight:
    """Look inside a classifier and write what is found as a page.

    Without an image the page shows the network and its weights, or, where layers are named, what
    excites their units. With an image it shows what each layer makes of it.

    Args:
        model: A run directory, a ``classifier.onnx`` or an open classifier.
        image: An image, or the name of one of its known images.
        layers: Layers to look at (default: all).
        data: Images with labels to look at it with (default: those of its run).
        label: The class that heat maps speak for (default: the answer); of units, the class that
            they are sorted by.
        explain: With an image: heat maps, the smallest patch that decides, nearest training
            images.
        ablate: With layers: switch off each of their units in turn.
        probes: Fit a linear probe to each layer.
        portraits: Show the training images that stand for each class.
        as_is: Leave the image's background as it is.
        save: Write the layers' raw numbers into this ``.npz`` file, and no page: of the image,
            or of all known images.
        out: Folder for the page (default: ``inspection`` in the run directory, or here).
        watcher: Receives the progress of the work.

    Raises:
        RecipeError: A combination of these that means nothing, or an unknown class.
        ModelFileError: There is no such layer.
        ImageError: The image cannot be read.
        SourceError: Images are needed, and there are none.
        StorageError: The disk refuses a write.
        MissingExtraError: What draws pages is not installed.

    Example:
        >>> import opsin, tempfile
        >>> run = opsin.train("digits", model="mlp", epochs=1, runs=tempfile.mkdtemp(), quiet=True)
        >>> opsin.inspect(run).page.name
        'network.html'
    """
    whole, units = image is None and not layers, image is None and bool(layers)
    for asked, name, fits, need in (
        (explain, "explain", image is not None, "an image"),
        (ablate, "ablate", units, "layers and no image"),
        (probes, "probes", whole, "neither an image nor layers"),
        (portraits, "portraits", whole, "neither an image nor layers"),
        (label is not None, "class", explain or units, "explain, or layers without an image"),
    ):
        if asked and not fits:
            raise RecipeError(f"--{name} takes {need}")
    look = Inspection(model, data=data, watcher=watcher)
    folder = Path("inspection" if look.run is None else look.run.inspection)
    folder = folder if out is None else Path(out)
    check_writable(folder / "network.html" if save is None else Path(save))  # not after the work
    insight = Insight(look.classifier.path)
    if image is not None:
        insight.answer = look.predict(image, as_is=as_is)
    if save is not None:
        if label is not None or explain or ablate or probes or portraits or out is not None:
            raise RecipeError("--save takes nothing but an image and layers")
        insight.saved = look.save(save, insight.answer, list(layers) or None)
        return insight
    from opsin.commands import inspect_pages as pages  # noqa: PLC0415  needs Jinja

    if label is not None:
        look.class_called(label)
    if insight.answer is not None:
        name = _file_name(insight.answer.name)
        if name == "network" or name.startswith("units-"):  # other pages are called so
            name = f"image-{name}"
        page = folder / f"{name}.html"
        pages.look_at_image(look, insight, insight.answer, page, layers, explain=explain,
                            label=label)  # fmt: skip
    elif layers:
        page = folder / f"{_file_name('-'.join(['units', *dict.fromkeys(layers)]))}.html"
        pages.look_at_units(look, insight, page, layers, label=label, ablate=ablate)
    else:
        page = folder / "network.html"
        pages.look_at_network(look, insight, page, probes=probes, portraits=portraits)
    return insight


def _file_name(name: str) -> str:
    """A harmless file name for an image or for layers, without its ending."""
    called = Path(name).stem if os.path.isfile(name) else name  # noqa: PTH113  also impossible ones
    return re.sub(r"[^\w.-]+", "-", called).strip(".-")[:80] or "image"


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
        """All of it as plain data."""
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
    if term is None and (image is not None or layer is not None):
        what = "A layer" if image is None else "An image"
        raise RecipeError(f"{what} needs a term", "Name one: --term softmax, for example.")
    look = Inspection(model, data=data, watcher=watcher)
    if term is None:
        return Explained(look.classifier.path, look.terms())
    answer = look.predict(look.first_image if image is None else image)
    return Explained(look.classifier.path, look.terms(), answer, look.lesson(term, answer, layer))
