"""The verbs `inspect` and `explain`: plain data and pages."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from opsin.commands.inspect_model import Insight, Inspection, nearest_if_any
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted, file_size, grey_or_colour, plus_minus
from opsin.core.storage import check_writable, write_bytes
from opsin.data.images import ImageLike
from opsin.data.run_images import Places
from opsin.inspection.lessons.lesson_terms import Term
from opsin.inspection.lessons.windows import Lesson
from opsin.report.inside.decision_sections import decision_sections
from opsin.report.inside.layer_sections import layer_sections, lesson_sections
from opsin.report.inside.unit_sections import ROOM, unit_sections
from opsin.report.templates import Section, render_page
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction


@checked
def inspect(
    model: str | os.PathLike[str] | Classifier,
    image: ImageLike | None = None,
    *,
    layers: Sequence[str] = (),
    data: Places = (),
    label: str | None = None,
    explain: bool = False,
    ablate: bool = False,
    as_is: bool = False,
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Insight:
    """Look inside a classifier, and write a page.

    Without an image, the page shows the network and its weights or, for some layers, what excites
    their units. With an image, it shows the outputs of the layers.

    Args:
        model: A run directory, a ``classifier.onnx`` or an open classifier.
        image: An image, or the name of one of its known images.
        layers: Layers to look at (default: all).
        data: Images with labels to look at it with (default: those of its run).
        label: The class that heat maps speak for (default: the answer), or that units are sorted
            by.
        explain: With an image: heat maps, the smallest patch that decides, nearest training
            images.
        ablate: With layers: switch off each of their units in turn.
        as_is: Leave the image's background as it is.
        out: Folder for the page (default: ``inspection`` in the run directory, or here).
        watcher: Receives the progress of the work.

    Raises:
        RecipeError: Options contradict each other, or the class is unknown.
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
    units = image is None and bool(layers)
    for asked, name, fits, need in (
        (explain, "explain", image is not None, "an image"),
        (ablate, "ablate", units, "layers and no image"),
        (label is not None, "class", explain or units, "explain, or layers without an image"),
    ):
        if asked and not fits:
            raise RecipeError(f"--{name} takes {need}")
    look = Inspection(model, data=data, watcher=watcher)
    folder = _folder_of(look) if out is None else Path(out)
    check_writable(folder / "network.html")  # not after the work
    if label is not None:
        look.class_called(label)
    if image is not None:
        answer = look.predict(image, as_is=as_is)
        name = _file_name(answer.name)
        if name == "network" or name.startswith("units-"):  # other pages are called so
            name = f"image-{name}"
        page = folder / f"{name}.html"
        return image_page(look, answer, page, layers, explain=explain, label=label)
    if layers:
        page = folder / f"{_file_name('-'.join(['units', *dict.fromkeys(layers)]))}.html"
        return unit_page(look, page, layers, label=label, ablate=ablate)
    return network_page(look, folder / "network.html")


def _folder_of(look: Inspection) -> Path:
    return Path("inspection" if look.run is None else look.run.inspection)


def _file_name(name: str) -> str:
    """A harmless file name for an image or for layers, without its ending."""
    called = Path(name).stem if os.path.isfile(name) else name  # noqa: PTH113  also impossible ones
    return re.sub(r"[^\w.-]+", "-", called).strip(".-")[:80] or "image"


@checked
@dataclass(frozen=True)
class Explained:
    """The result of `explain`; parts not requested are ``None``.

    ``terms`` have lessons in this network, each about its layers; ``lesson`` holds the layer's work
    on the image: ``layer``, ``kind`` and the numbers.
    """

    JSON: ClassVar = "model terms answer lesson"
    model: Path
    terms: dict[Term, tuple[str, ...]]
    answer: Prediction | None = None
    lesson: Lesson | None = None
    page: Path | None = None


@checked
def explain(
    model: str | os.PathLike[str] | Classifier,
    term: Term | None = None,
    image: ImageLike | None = None,
    *,
    layer: str | None = None,
    data: Places = (),
    page: bool = False,
    watcher: Watcher = SILENT,
) -> Explained:
    """Explain a layer of a classifier, with its real numbers for one image.

    Args:
        model: A run directory, a ``classifier.onnx`` or an open classifier.
        term: ``convolution``, ``pooling``, ``batch-normalisation``, ``dropout`` or ``softmax``
            (default: list those that this network has).
        image: An image, or the name of one of its known images (default: the first of its test
            images).
        layer: Name of the layer (default: the first one of that kind).
        data: Images with labels to choose the image from (default: those of its run).
        page: Write the lesson as a page, into ``inspection`` in the run directory, or here.
        watcher: Receives the progress of the work.

    Raises:
        RecipeError: An image or a layer without a term.
        ModelFileError: The network has no such layer.
        ImageError: The image cannot be read.
        SourceError: No image is given, and there are none.
        StorageError: The page cannot be written.
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
    lesson = look.lesson(term, answer, layer)
    file = _folder_of(look) / f"{term}-{_file_name(lesson.layer)}.html" if page else None
    if file is not None:
        sections = lesson_sections(lesson, answer.pixels)
        _write_about(look, answer, file, sections)
    return Explained(look.classifier.path, look.terms(), answer, lesson, file)


def network_page(look: Inspection, page: Path) -> Insight:
    """Write the page of a network: layers and weights."""
    from opsin.report.figures.network_figures import draw_network  # noqa: PLC0415  matplotlib
    from opsin.report.figures.style import save, styled, svg_of  # noqa: PLC0415
    from opsin.report.inside.network_sections import (  # noqa: PLC0415
        network_section,
        weight_sections,
    )

    insight = Insight(look.classifier.path, page)
    insight.summary = summary = look.summary()
    insight.weights = look.weights()
    rows, classes = summary.rows, look.classifier.classes
    with styled():
        figure = draw_network(rows)
        insight.files = [save(figure, page.parent / "figures" / "network.png")]
        sections = [network_section(rows, svg_of(figure))]
    sections += weight_sections(insight.weights, classes)
    facts = _facts(look) | {
        "Parameters": f"{summary.parameters:,}",
        "Multiply-adds an image": f"{summary.multiply_adds:,}",
        "File": file_size(summary.file_bytes),
    }
    preparation = look.classifier.metadata.preparation
    size = f"{preparation.width}×{preparation.height} {grey_or_colour(preparation.channels)} pixels"
    layers = counted(len(rows), "layer leads", "layers lead")
    verdict = f"{layers} from {size} to {counted(len(classes), 'class', 'classes')}"
    _write(page, _title(look), verdict, facts, sections)
    return insight


def image_page(
    look: Inspection,
    answer: Prediction,
    page: Path,
    layers: Sequence[str] = (),
    *,
    explain: bool = False,
    label: str | None = None,
) -> Insight:
    """Write the page of an image: the outputs of layers, and heat maps."""
    insight = Insight(look.classifier.path, page, answer=answer)
    insight.views = look.layers(answer, list(layers) or None)
    if not explain:  # whoever asks why need not wait for a thousand other images
        insight.activity = look.activity()
    fields = {view.name: look.network.receptive_field(view.name) for view in insight.views}
    bars = answer.top(len(look.classifier.classes))
    sections = layer_sections(insight.views, insight.activity, answer.pixels, bars, fields)
    if explain:
        insight.decision = look.explain(answer, label)
        insight.neighbours = nearest_if_any(look, answer)
        actual = look.actual(answer)
        sections[1:1] = decision_sections(insight.decision, insight.neighbours, actual=actual)
    _write_about(look, answer, page, sections)
    return insight


def unit_page(
    look: Inspection,
    page: Path,
    layers: Sequence[str],
    *,
    label: str | None = None,
    ablate: bool = False,
) -> Insight:
    """Write the page of layers' units and, if requested, their ablation."""
    insight = Insight(look.classifier.path, page)
    # All names first: an ablation may take many minutes per layer.
    for layer in [look.network.layer(layer).name for layer in dict.fromkeys(layers)]:
        insight.galleries[layer] = look.units(layer)
        if ablate:
            insight.ablations[layer] = look.ablation(layer)
    galleries = insight.galleries
    sections = [
        section
        for layer, gallery in galleries.items()
        for section in unit_sections(
            gallery, insight.ablations.get(layer), label=label, room=ROOM // len(galleries)
        )
    ]
    names = ", ".join(galleries)
    facts = _facts(look) | {
        "Layers": names,
        "Units": f"{sum(map(len, galleries.values())):,}",
        "Training images": f"{next(iter(galleries.values())).images:,}",
    }
    _write(page, _title(look), f"What excites the units of {names}", facts, sections)
    return insight


def _write_about(look: Inspection, answer: Prediction, page: Path, sections: list[Section]) -> None:
    classes, reject = look.classifier.classes, look.classifier.metadata.reject
    actual, second = look.actual(answer), answer.top(2)[-1]
    verdict = f"{answer.label}, {answer.confidence:.1%}"
    if answer.rejected:
        verdict = f"None of these (nearest: {verdict})"
    if actual is not None and classes[actual] != answer.label:
        verdict += f"; it is labelled {classes[actual]}"
    facts = {"Answer": answer.answer, "Second": f"{second[0]}, {second[1]:.1%}"}
    if answer.ood_score is not None:
        most = f"at most {reject.max_ood_score:.3f}" if reject else "no threshold"
        facts["OOD score"] = f"{answer.ood_score:.3f} ({most})"
    if actual is not None:
        facts["Label"] = classes[actual]
    if answer.notes:
        facts["Note"] = "; ".join(answer.notes)
    facts["Model"] = look.classifier.metadata.model
    _write(page, f"{_title(look)} · {answer.name}", verdict, facts, sections)


def _write(
    page: Path, title: str, verdict: str, facts: dict[str, str], sections: list[Section]
) -> None:
    write_bytes(page, render_page(title, verdict, facts, sections).encode("utf-8", "replace"))


def _title(look: Inspection) -> str:
    return look.classifier.path.name if look.run is None else look.run.path.resolve().name


def _facts(look: Inspection) -> dict[str, str]:
    metadata = look.classifier.metadata
    facts = {"Model": metadata.model, "Trained on": metadata.source}
    if metadata.score is not None:
        what = {
            "test": "Test accuracy",
            "val": "Validation accuracy, optimistic",
            "out_of_fold": "Accuracy on images not seen",
        }[metadata.score.split]
        facts[what] = plus_minus(metadata.score)
    return facts
