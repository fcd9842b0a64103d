"""What `opsin inspect` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from opsin.core.format import file_size
from opsin.report.terminal import bar, printable
from opsin.runtime.prediction import CANNOT_TELL, Prediction

if TYPE_CHECKING:
    from opsin.commands.inspect_model import Insight
    from opsin.inspection.decision import Decision
    from opsin.inspection.probes import Probes
    from opsin.inspection.summary import NetworkSummary
    from opsin.inspection.units import UnitGallery

# Lines of a table that a screen should show; the page and --json have all.
_LINES: Final = 20


def show(screen: Console, found: Insight, label: str | None) -> None:
    """Print what was found; units are sorted by the class ``label``, if one was asked for."""
    for number, part in enumerate(_parts(found, label)):
        if number:
            screen.print()
        if isinstance(part, str):
            screen.print(part, markup=False)
        else:
            screen.print(part)
    if found.page is not None:
        screen.print(f"\nLook      {found.page}", markup=False, soft_wrap=True)


def _parts(found: Insight, label: str | None) -> Iterator[Table | str]:
    if (saved := found.saved) is not None:
        rows = [
            f"{printable(name)}   float32[{', '.join(map(str, shape))}]"
            for name, shape in saved.layers.items()
        ]
        yield "\n".join([*rows, f"\nFile      {saved.file} · {file_size(saved.bytes)}"])
    if found.summary is not None:
        yield _summary(found.summary)
    if found.probes is not None:
        yield _probes(found.probes)
    if found.portraits:
        yield _portraits(found)
    if found.answer is not None:
        yield _answer(found.answer)
        yield _views(found)
    if found.decision is not None:
        yield _decision(found.decision, found)
    for layer, gallery in found.galleries.items():
        yield _gallery(found, layer, gallery, label)


def _table(*headings: str, left: int = 2) -> Table:
    """Return an empty table, its first columns for words and the others for figures."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, name in enumerate(headings):
        justify: Literal["left", "right"] = "left" if place < left else "right"
        table.add_column(name, justify=justify, overflow="fold")
    return table


def _plain(text: str) -> str:
    return escape(printable(text))


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _summary(summary: NetworkSummary) -> Table:
    table = _table("Layer", "Kind", "Output", "Parameters", "Multiply-adds", "Time", "Sees")
    table.show_footer = True
    table.columns[0].footer = "Total"
    table.columns[3].footer = f"{summary.parameters:,}"
    table.columns[4].footer = f"{summary.multiply_adds:,}"
    height, width = summary.size
    for row in summary.rows:
        field = row.receptive_field
        whole = field is None or (field.height >= height and field.width >= width)
        table.add_row(
            _plain(row.name),
            _plain(row.kind),
            _shape(row.shape),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
            "" if row.share is None else f"{row.share:.0%}",
            "all" if field is None or whole else f"{field.height}×{field.width}",
        )
    return table


def _probes(probes: Probes) -> Table:
    table = _table("Linear probe on", "", "Accuracy", "95% interval", "Features")
    for probe in probes.probes:
        table.add_row(
            _plain(probe.layer),
            f"[blue]{bar(probe.accuracy, 20)}[/]",
            f"{probe.accuracy:.4f}",
            f"{probe.low:.4f} to {probe.high:.4f}",
            f"{probe.features:,}",
        )
    return table


def _portraits(found: Insight) -> Table:
    table = _table("Class", "Surest", "Most typical", "Least typical", "Images", left=4)
    for portrait in found.portraits:
        named = [
            _plain(examples[0].name) if examples else ""
            for examples in (portrait.surest, portrait.nearest, portrait.farthest)
        ]
        table.add_row(_plain(portrait.label), *named, f"{portrait.images:,}")
    return table


def _answer(answer: Prediction) -> str:
    said = f"{printable(answer.label)}   {answer.confidence:.1%}"
    if answer.rejected:
        said = f"{answer.answer}   (nearest: {said})"
    # What makes the answer worthless stands before it.
    before = [answer.warning] if answer.warning else []
    after = [f"{CANNOT_TELL}."] if answer.rejected is None else []
    after += [note for note in answer.notes if note not in before]
    return "\n".join([*before, f"{printable(answer.name)}   {said}", *after])


def _views(found: Insight) -> Table:
    known = found.activity is not None
    table = _table(
        "Layer", "Kind", "Output", "Mean", "Deviation", "Largest", "Sparsity", "Strongest",
        *(("Dead",) if known else ()),
    )  # fmt: skip
    for view in found.views:
        units = None if found.activity is None else found.activity.layers.get(view.name)
        dead = [] if not known else ["" if units is None else f"{int(units.dead.sum()) or ''}"]
        table.add_row(
            _plain(view.name),
            _plain(view.kind),
            _shape(view.values.shape),
            f"{view.mean:.3f}",
            f"{view.deviation:.3f}",
            f"{view.maximum:.3f}",
            f"{view.sparsity:.0%}",
            f"unit {view.order[0]}",
            *dead,
        )
    return table


def _decision(decision: Decision, found: Insight) -> str:
    from opsin.report.inside.decision_sections import (  # noqa: PLC0415  loads jinja2
        METHODS,
        counterfactual_words,
        neighbours_words,
    )

    lines = [f"Why {printable(decision.classes[decision.target])}?"]
    for each in decision.maps:
        lines.append(f"    {METHODS[each.method].title:<22}{each.verdict.words}")
    if decision.maps:
        lines.append(f"    {printable(counterfactual_words(decision))}")
    if found.neighbours:
        lines.append(f"    {printable(neighbours_words(found.neighbours, decision))}")
    lines += [f"    {note}" for note in decision.notes]
    return "\n".join(lines)


def _gallery(found: Insight, layer: str, gallery: UnitGallery, label: str | None) -> Table:
    """Return the units that fire for a class, or that matter most, or that one class lifts most."""
    ablation = found.ablations.get(layer)
    if label is not None:
        chosen = [match.unit for match in gallery.search(label)]
    elif ablation is not None:
        chosen = [effect.unit for effect in ablation.effects]
    else:
        lifts = gallery.selectivity.max(axis=1)
        chosen = sorted(range(len(gallery)), key=lambda unit: (-lifts[unit], unit))
    table = _table(f"Unit of {_plain(layer)}", "Fires for", "By", "Excited most by", left=2)
    if ablation is not None:
        table.add_column("Without it", justify="right")
    for number in chosen[:_LINES]:
        unit = gallery.unit(number)
        favourite = label or unit.favourite
        effect = None if ablation is None else ablation.of(number)
        table.add_row(
            str(number),
            "nothing" if unit.constant else _plain(favourite),
            "" if unit.constant else f"{unit.selectivity[favourite]:.1f} deviations",
            _plain(unit.best[0].name) if unit.best else "",
            *([] if effect is None else [f"{effect.change:+.4f}{' *' if effect.shown else ''}"]),
        )
    words = []
    if len(chosen) > _LINES:
        words.append(f"{len(chosen) - _LINES:,} more on the page")
    if ablation is not None:
        some = any(effect.shown for effect in ablation.effects)
        words.append(f"{'*' if some else 'no change is'} shown to be more than chance")
    table.caption, table.caption_justify = "; ".join(words) or None, "left"
    return table
