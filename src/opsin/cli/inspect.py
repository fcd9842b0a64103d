"""`opsin inspect` and `explain`: layers, units and decisions of a classifier, and lessons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.table import Table

from opsin.cli.output import columns, console, plain, print_json
from opsin.core.stored_json import plain_data
from opsin.inspection.lessons.lesson_terms import SENTENCES, Term
from opsin.report.terminal import for_people, printable
from opsin.runtime.prediction import CANNOT_TELL, Prediction

if TYPE_CHECKING:
    from opsin.commands.inspect import Explained
    from opsin.commands.inspect_model import Insight
    from opsin.inspection.decision import Decision
    from opsin.inspection.summary import NetworkSummary
    from opsin.inspection.units import UnitGallery

# Most lines of a printed table; the page and --json have all.
_LINES: Final = 20


def inspect(
    model: Path,
    image: str | None = None,
    *,
    layer: list[str] | None = None,
    explain: bool = False,
    label: str | None = None,
    ablate: bool = False,
    data: list[str] | None = None,
    as_is: bool = False,
    out: Path | None = None,
    open_page: bool = False,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Look inside a classifier: its layers, its units, its decisions.

    Example: opsin inspect runs/2026-11-21-fashion-mnist-cnn

    Example: opsin inspect runs/2026-11-21-fashion-mnist-cnn boot.png --explain

    Example: opsin inspect runs/cnn --layer block2.relu2 --class Bag

    Options:
        image (IMAGE): An image; or one of the run's, by name, or by part and number: test/17.
        layer (NAME): A layer in full; may be given several times. Without an image: what excites
            each of its units, over all training images.
        explain: With an image: heat maps with their checks, the smallest patch that decides, and
            the nearest training images.
        label (--class CLASS): With --explain: the class that the heat maps speak for. With --layer:
            the units that fire for it.
        ablate: With --layer: switch off each unit in turn, and count on the validation images what
            that costs.
        as_is: Never invert an image's background.
        out (FOLDER): Folder for the page (default: inspection in the run directory, or here).
    """
    from opsin.commands.inspect import inspect as workflow  # noqa: PLC0415  slow to load

    insight = workflow(
        model,
        image,
        layers=layer or (),
        data=data or (),
        label=label,
        explain=explain,
        ablate=ablate,
        as_is=as_is,
        out=out,
        watcher=for_people(quiet=quiet),
    )
    if as_json:
        parts = plain_data(insight)  # only those that were asked for
        print_json({name: part for name, part in parts.items() if part or name == "files"})
    else:
        show_insight(console(), insight, label)
    if open_page and insight.page is not None:
        typer.launch(insight.page.absolute().as_uri())


def show_insight(screen: Console, insight: Insight, label: str | None = None) -> None:
    """Print the findings; units are sorted by the class ``label``, if given."""
    for number, part in enumerate(_parts(insight, label)):
        if number:
            screen.print()
        screen.print(part, markup=False if isinstance(part, str) else None)
    if insight.page is not None:
        screen.print(f"\nLook      {insight.page}", markup=False, soft_wrap=True)


def _parts(insight: Insight, label: str | None) -> Iterator[Table | str]:
    if insight.summary is not None:
        yield _summary(insight.summary)
    if insight.answer is not None:
        yield _answer(insight.answer)
        yield _layers(insight)
    if insight.decision is not None:
        yield _decision(insight.decision, insight)
    for layer, gallery in insight.galleries.items():
        yield _gallery(insight, layer, gallery, label)


def _summary(summary: NetworkSummary) -> Table:
    rows = columns(
        "Layer", "Kind", figures=("Output", "Parameters", "Multiply-adds", "Sees"), gap=2
    )
    rows.show_footer = True
    rows.columns[0].footer = "Total"
    rows.columns[3].footer = f"{summary.parameters:,}"
    rows.columns[4].footer = f"{summary.multiply_adds:,}"
    height, width = summary.size
    for row in summary.rows:
        field = row.receptive_field
        whole = field is None or (field.height >= height and field.width >= width)
        rows.add_row(
            plain(row.name),
            plain(row.kind),
            "×".join(map(str, row.shape)),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
            "all" if field is None or whole else f"{field.height}×{field.width}",
        )
    return rows


def _answer(answer: Prediction) -> str:
    nearest = f"{printable(answer.label)}   {answer.confidence:.1%}"
    if answer.rejected:
        nearest = f"{answer.answer}   (nearest: {nearest})"
    # A warning that invalidates the answer comes first.
    before = [answer.warning] if answer.warning else []
    after = [f"{CANNOT_TELL}."] if answer.rejected is None else []
    after += [note for note in answer.notes if note not in before]
    return "\n".join([*before, f"{printable(answer.name)}   {nearest}", *after])


def _layers(insight: Insight) -> Table:
    """Return statistics of each layer for the image."""
    activity = insight.activity
    figures = ["Output", "Mean", "Deviation", "Largest", "Sparsity", "Strongest"]
    figures += [] if activity is None else ["Dead"]
    rows = columns("Layer", "Kind", figures=figures, gap=2)
    for view in insight.views:
        dead = []
        if activity is not None:
            units = activity.layers.get(view.name)
            dead = ["" if units is None else f"{int(units.dead.sum()) or ''}"]
        rows.add_row(
            plain(view.name),
            plain(view.kind),
            "×".join(map(str, view.values.shape)),
            f"{view.mean:.3f}",
            f"{view.deviation:.3f}",
            f"{view.maximum:.3f}",
            f"{view.sparsity:.0%}",
            f"unit {view.order[0]}",
            *dead,
        )
    return rows


def _decision(decision: Decision, insight: Insight) -> str:
    from opsin.report.inside.decision_sections import (  # noqa: PLC0415  loads jinja2
        METHODS,
        counterfactual_words,
        neighbours_words,
    )

    lines = [f"Why {printable(decision.label)}?"]
    for heat_map in decision.maps:
        lines.append(f"    {METHODS[heat_map.method].title:<22}{heat_map.verdict.words}")
    if decision.maps:
        lines.append(f"    {printable(counterfactual_words(decision))}")
    if insight.neighbours:
        lines.append(f"    {printable(neighbours_words(insight.neighbours, decision))}")
    return "\n".join([*lines, *(f"    {note}" for note in decision.notes)])


def _gallery(insight: Insight, layer: str, gallery: UnitGallery, label: str | None) -> Table:
    """Return the top units: for a class, by importance, or by lift."""
    ablation = insight.ablations.get(layer)
    if label is not None:
        chosen = [match.unit for match in gallery.search(label)]
    elif ablation is not None:
        chosen = [effect.unit for effect in ablation.effects]
    else:
        lifts = gallery.record.selectivity.max(axis=1)
        chosen = sorted(range(len(gallery)), key=lambda unit: (-lifts[unit], unit))
    figures = ["By", "Excited most by"] + ([] if ablation is None else ["Without it"])
    rows = columns(f"Unit of {plain(layer)}", "Fires for", figures=figures, gap=2)
    for number in chosen[:_LINES]:
        unit = gallery.unit(number)
        favourite = label or unit.favourite
        effect = None if ablation is None else ablation.of(number)
        rows.add_row(
            str(number),
            "nothing" if unit.constant else plain(favourite),
            "" if unit.constant else f"{unit.selectivity[favourite]:.1f} deviations",
            plain(unit.best[0].name) if unit.best else "",
            *([] if effect is None else [f"{effect.change:+.4f}{' *' if effect.shown else ''}"]),
        )
    words = [f"{len(chosen) - _LINES:,} more on the page"] if len(chosen) > _LINES else []
    if ablation is not None:
        some = any(effect.shown for effect in ablation.effects)
        words.append(f"{'*' if some else 'no change is'} shown to be more than chance")
    rows.caption, rows.caption_justify = "; ".join(words) or None, "left"
    return rows


def explain(
    model: Path,
    image: str | None = None,
    *,
    term: Term | None = None,
    layer: str | None = None,
    data: list[str] | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Explain what a layer does, with its real numbers for one image.

    Writes a page into inspection in the run directory, or here; --json writes none.

    Example: opsin explain runs/2026-11-21-fashion-mnist-cnn --term convolution

    Example: opsin explain runs/2026-11-21-fashion-mnist-cnn boot.jpg --term softmax

    Options:
        image (IMAGE): An image; or one of the run's, by name, or by part and number: test/17
            (default: the first test image).
        term: What to explain (default: list what this network has).
        layer (NAME): At which layer (default: the first one of that kind).
    """
    from opsin.commands.inspect import explain as workflow  # noqa: PLC0415  slow to load

    explained = workflow(
        model,
        term,
        image,
        layer=layer,
        data=data or (),
        page=not as_json,
        watcher=for_people(quiet=quiet),
    )
    if as_json:
        print_json(plain_data(explained))
    else:
        _show_explained(console(), explained)


def _show_explained(screen: Console, explained: Explained) -> None:
    lesson, answer = explained.lesson, explained.answer
    if lesson is None or answer is None:
        terms = columns("Term", "Layers", "What it does", gap=2)
        for term, sentence in SENTENCES.items():
            layers = explained.terms.get(term, ())
            more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
            terms.add_row(term, plain(", ".join(layers[:3]) + more) or "none here", sentence)
        screen.print(terms)
        return
    words = printable(answer.name), printable(answer.answer), f"{answer.confidence:.1%}"
    screen.print("   ".join(words), markup=False)
    if answer.rejected is None:
        screen.print(f"{CANNOT_TELL}.", style="dim")
    screen.print(f"{printable(lesson.layer)}   {printable(lesson.kind)}", markup=False)
    screen.print(SENTENCES[lesson.term], markup=False)
    screen.print(f"\nLook      {explained.page}", markup=False, soft_wrap=True)
