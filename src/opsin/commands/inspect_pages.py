"""What was found inside a classifier, written as pages and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import OpsinError
from opsin.core.format import counted, file_size, grey_or_colour, plus_minus
from opsin.core.storage import write_bytes
from opsin.report.inside.decision_sections import decision_sections
from opsin.report.inside.layer_sections import layer_sections
from opsin.report.inside.lesson_sections import lesson_sections
from opsin.report.inside.unit_sections import ROOM, portrait_sections, unit_sections
from opsin.report.templates import Section, render_page
from opsin.runtime.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from opsin.commands.inspect_model import Insight, Inspection
    from opsin.inspection.lessons.lesson_layers import Lesson
    from opsin.inspection.summary import NetworkSummary


def write_network_page(
    look: Inspection, found: Insight, summary: NetworkSummary, page: Path
) -> None:
    """Write what the network is; ``found.page`` and ``found.files`` are set."""
    from opsin.report.figures.inspection_charts import (  # noqa: PLC0415  loads matplotlib
        draw_norms,
        draw_probes,
        norms_of,
    )
    from opsin.report.figures.network_figures import (  # noqa: PLC0415  loads matplotlib
        draw_network,
        draw_receptive_fields,
    )
    from opsin.report.figures.style import save, styled  # noqa: PLC0415
    from opsin.report.inside.network_sections import network_sections  # noqa: PLC0415
    from opsin.report.inside.weight_sections import probe_sections, weight_sections  # noqa: PLC0415

    rows, history = summary.rows, found.history
    drawings: dict[str, Callable[[], Figure]] = {"network": lambda: draw_network(rows)}
    pixels = _image(look)
    if pixels is not None:
        drawings["receptive-fields"] = lambda: draw_receptive_fields(rows, pixels)
    if len(norms_of(history)[0]) > 1:  # one epoch is no history
        drawings["norms"] = lambda: draw_norms(history)
    probes = found.probes
    if probes is not None:
        drawings["probes"] = lambda: draw_probes(probes.probes)
    drawn: dict[str, str] = {}
    with styled():
        for name, draw in drawings.items():
            figure, folder = draw(), page.parent / "figures"
            png, svg = (save(figure, folder / f"{name}.{kind}") for kind in ("png", "svg"))
            found.files += [png, svg]
            drawn[name] = svg.read_text(encoding="utf-8")
    own = {name: svg for name, svg in drawn.items() if name in {"network", "receptive-fields"}}
    sections = network_sections(rows, own)
    if probes is not None:
        sections += probe_sections(probes, drawn)
    if found.portraits:
        sections += portrait_sections(found.portraits)
    classes = look.classifier.classes
    sections += weight_sections(found.weights, history, drawn, classes=classes)
    facts = _facts(look) | {
        "Parameters": f"{summary.parameters:,}",
        "Multiply-adds an image": f"{summary.multiply_adds:,}",
        "File": file_size(summary.file_bytes),
    }
    like = look.classifier.metadata.preparation
    size = f"{like.width}×{like.height} {grey_or_colour(like.channels)} pixels"
    layers = counted(len(rows), "layer leads", "layers lead")
    verdict = f"{layers} from {size} to {counted(len(classes), 'class', 'classes')}"
    _write(found, page, render_page(_name(look), verdict, facts, sections))


def write_image_page(look: Inspection, found: Insight, answer: Prediction, page: Path) -> None:
    """Write what each layer makes of an image, and, if that was asked, why it got its answer."""
    fields = {view.name: look.network.receptive_field(view.name) for view in found.views}
    bars = answer.top(len(look.classifier.classes))
    sections = layer_sections(found.views, found.activity, answer.pixels, bars, fields)
    if found.decision is not None:
        actual = look.actual(answer)
        sections[1:1] = decision_sections(found.decision, found.neighbours, actual=actual)
    _write_about(look, found, answer, sections, page)


def write_lesson_page(
    look: Inspection, found: Insight, answer: Prediction, lesson: Lesson, page: Path
) -> None:
    """Write what a layer does to an image, with its real numbers."""
    _write_about(look, found, answer, lesson_sections(lesson, answer.pixels), page)


def write_units_page(look: Inspection, found: Insight, page: Path, label: str | None) -> None:
    """Write what excites the units of layers, and what each of them is worth."""
    sections: list[Section] = []
    room = ROOM // len(found.galleries)
    for layer, gallery in found.galleries.items():
        sections += unit_sections(gallery, found.ablations.get(layer), label=label, room=room)
    layers = ", ".join(found.galleries)
    facts = _facts(look) | {
        "Layers": layers,
        "Units": f"{sum(map(len, found.galleries.values())):,}",
        "Training images": f"{next(iter(found.galleries.values())).images:,}",
    }
    verdict = f"What excites the units of {layers}"
    _write(found, page, render_page(_name(look), verdict, facts, sections))


def _write(found: Insight, page: Path, html: str) -> None:
    write_bytes(page, html.encode("utf-8", "replace"))
    found.page = page


def _write_about(
    look: Inspection, found: Insight, answer: Prediction, sections: list[Section], page: Path
) -> None:
    """Write a page about an image under the headline of its answer."""
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
    _write(found, page, render_page(f"{_name(look)} · {answer.name}", verdict, facts, sections))


def _name(look: Inspection) -> str:
    run = look.run
    return look.classifier.path.name if run is None else run.path.resolve().name


def _facts(look: Inspection) -> dict[str, str]:
    metadata = look.classifier.metadata
    facts = {"Model": metadata.model, "Trained on": metadata.source}
    if metadata.score is not None:
        what = {
            "test": "Test accuracy", "val": "Validation accuracy, optimistic",
            "out_of_fold": "Accuracy on images not seen",
        }[metadata.score.split]  # fmt: skip
        facts[what] = plus_minus(metadata.score)
    return facts


def _image(look: Inspection) -> NDArray[np.uint8] | None:
    """Return one of the known images, if there are any to be had."""
    if not look.has_images:
        return None
    try:
        known = look.known
        # An image that cannot be read any more shows only here.
        for rows in (known.val, known.train, known.test):
            if len(rows):
                return np.asarray(known.images[int(rows[0])])
    except OpsinError as error:
        look.note(f"No image to draw on: {error}")
    return None
