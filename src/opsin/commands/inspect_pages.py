"""Pages and figures of an inspection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opsin.commands.inspect_model import Insight, Inspection
from opsin.core.errors import OpsinError
from opsin.core.format import counted, file_size, grey_or_colour, plus_minus
from opsin.core.storage import write_bytes
from opsin.report.inside.decision_sections import decision_sections
from opsin.report.inside.layer_sections import layer_sections, lesson_sections
from opsin.report.inside.unit_sections import ROOM, portrait_sections, unit_sections
from opsin.report.templates import Section, render_page
from opsin.runtime.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from opsin.inspection.lessons.lesson_layers import Lesson


#: Nearest training images that a page shows.
NEIGHBOURS: Final = 9


def look_at_network(
    look: Inspection,
    insight: Insight,
    page: Path,
    *,
    probes: bool = False,
    portraits: bool = False,
) -> None:
    """Write the page of a network: layers, weights and options."""
    from opsin.inspection.weights import norm_history  # noqa: PLC0415  needs onnx
    from opsin.report.figures import network_figures  # noqa: PLC0415  matplotlib
    from opsin.report.figures.style import save, styled  # noqa: PLC0415
    from opsin.report.inside.network_sections import (  # noqa: PLC0415
        network_section,
        probe_section,
        weight_sections,
    )

    insight.summary = summary = look.summary()
    insight.weights, insight.history = look.weights(), norm_history(look.classifier)
    rows, history, classes = summary.rows, insight.history, look.classifier.classes
    drawings: dict[str, Callable[[], Figure]] = {
        "network": lambda: network_figures.draw_network(rows)
    }
    if len(network_figures.norms_of(history)[0]) > 1:  # one epoch is no history
        drawings["norms"] = lambda: network_figures.draw_norms(history)
    if probes:
        insight.probes = probed = look.probes()
        drawings["probes"] = lambda: network_figures.draw_probes(probed.probes)
    if portraits:
        insight.portraits = look.portraits()
    drawn: dict[str, str] = {}
    with styled():
        for name, draw in drawings.items():
            figure, folder = draw(), page.parent / "figures"
            png, svg = (save(figure, folder / f"{name}.{kind}") for kind in ("png", "svg"))
            insight.files += [png, svg]
            drawn[name] = svg.read_text(encoding="utf-8")
    sections = [network_section(rows, drawn["network"])]
    if insight.probes is not None:
        sections.append(probe_section(insight.probes, drawn["probes"]))
    if insight.portraits:
        sections += portrait_sections(insight.portraits)
    sections += weight_sections(insight.weights, history, drawn, classes=classes)
    facts = _facts(look) | {
        "Parameters": f"{summary.parameters:,}",
        "Multiply-adds an image": f"{summary.multiply_adds:,}",
        "File": file_size(summary.file_bytes),
    }
    preparation = look.classifier.metadata.preparation
    size = f"{preparation.width}×{preparation.height} {grey_or_colour(preparation.channels)} pixels"
    layers = counted(len(rows), "layer leads", "layers lead")
    verdict = f"{layers} from {size} to {counted(len(classes), 'class', 'classes')}"
    _write(insight, page, render_page(_name(look), verdict, facts, sections))


def look_at_image(
    look: Inspection,
    insight: Insight,
    answer: Prediction,
    page: Path,
    layers: Sequence[str] | None = (),
    *,
    explain: bool = False,
    label: str | None = None,
) -> None:
    """Write the page of an image: the layers' outputs and, if requested, heat maps."""
    if layers is not None:
        insight.views = look.layers(answer, list(layers) or None)
        insight.activity = look.activity()
    fields = {view.name: look.network.receptive_field(view.name) for view in insight.views}
    bars = answer.top(len(look.classifier.classes))
    sections = layer_sections(insight.views, insight.activity, answer.pixels, bars, fields)
    if explain:
        insight.decision = look.explain(answer, label)
        if look.has_images:
            try:
                insight.neighbours = look.nearest(answer, NEIGHBOURS)
            except OpsinError as error:
                look.watcher.note(f"nearest training images are not shown: {error}")
        actual = look.actual(answer)
        sections[1:1] = decision_sections(insight.decision, insight.neighbours, actual=actual)
    _write_about(look, insight, answer, sections, page)


def look_at_lesson(look: Inspection, answer: Prediction, lesson: Lesson, page: Path) -> None:
    """Write the page of a lesson on one layer and image."""
    insight, sections = Insight(look.classifier.path), lesson_sections(lesson, answer.pixels)
    _write_about(look, insight, answer, sections, page)


def look_at_units(
    look: Inspection,
    insight: Insight,
    page: Path,
    layers: Sequence[str],
    *,
    label: str | None = None,
    ablate: bool = False,
    limit: int | None = None,
) -> None:
    """Write the page of layers' units and, if requested, their ablation."""
    if label is not None:
        look.class_called(label)
    # All names first: what a unit is worth may take many minutes a layer.
    for layer in [look.network.layer(layer).name for layer in dict.fromkeys(layers)]:
        insight.galleries[layer] = look.units(layer, limit=limit)
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
    verdict = f"What excites the units of {names}"
    _write(insight, page, render_page(_name(look), verdict, facts, sections))


def _write(insight: Insight, page: Path, html: str) -> None:
    write_bytes(page, html.encode("utf-8", "replace"))
    insight.page = page


def _write_about(
    look: Inspection, insight: Insight, answer: Prediction, sections: list[Section], page: Path
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
    _write(insight, page, render_page(f"{_name(look)} · {answer.name}", verdict, facts, sections))


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
