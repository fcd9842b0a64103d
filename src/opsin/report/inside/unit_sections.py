"""Sections on units and on classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.format import counted
from opsin.report.answer_image import image_address
from opsin.report.inside.inspection_page import Section, section

if TYPE_CHECKING:
    from opsin.inspection.ablation import Ablation, UnitEffect
    from opsin.inspection.portraits import Portrait
    from opsin.inspection.units import Unit, UnitGallery

#: Bytes of images that a section may hold, so that the page stays quick.
ROOM: Final = 8_000_000
# Cards in a fold, classes with a bar, classes named in a mix, and rows of a table before its fold.
_FOLD, _BARS, _NAMED, _ROWS = 24, 12, 3, 12
# Classes that a table has a column for.
_TABLE: Final = 25
# Effects that a table names; the rest is in the JSON.
_EFFECTS: Final = 500
# Classes that a unit can be found by: those that lift it, this far at least.
_LIFTED: Final = 0.1
# Classes that are shown unfolded.
_OPEN: Final = 12


@dataclass
class _Room:
    """How many bytes of images are left."""

    left: int

    def address(self, pixels: NDArray[np.uint8]) -> str:
        address = image_address(pixels)
        self.left -= len(address)
        return address


@dataclass(frozen=True)
class _Best:
    """One of the images that excite a unit most.

    Args:
        name: What it is called.
        label: Its class.
        value: How active the unit is.
        patch: Address of what the unit sees of it.
        whole: Address of all of it, where that is more.
        frame: Where the patch lies: ``left``, ``top``, ``width``, ``height`` in percent.
    """

    name: str
    label: str
    value: float
    patch: str
    whole: str | None
    frame: dict[str, float]


@dataclass(frozen=True)
class _Bar:
    """A unit's mean activity for a class; ``start`` and ``width`` in percent."""

    name: str
    value: float | None
    start: float
    width: float
    rank: int | None


@dataclass(frozen=True)
class _UnitCard:
    """What a card shows.

    Args:
        unit: The unit.
        best: The images that excite it most.
        mix: Their commonest classes, with how many of them are of each.
        others: How many are of further classes.
        bars: Its mean activity by class.
        effect: What it is worth, where that was measured.
        lifts: The classes that lift it, by their places among all, and how far.
    """

    unit: Unit
    best: list[_Best]
    mix: list[tuple[str, int]]
    others: int
    bars: list[_Bar]
    effect: UnitEffect | None
    lifts: list[tuple[int, float]]

    @property
    def cut(self) -> bool:
        """Whether it sees only a part of some images."""
        return any(image.whole for image in self.best)

    @property
    def total(self) -> int:
        """How many images excite it most."""
        return sum(self.unit.mix.values())


def unit_sections(
    gallery: UnitGallery,
    ablation: Ablation | None,
    *,
    label: str | None = None,
    room: int = ROOM,
) -> list[Section]:
    """Return the sections about the units of one layer.

    Args:
        gallery: The units.
        ablation: What each of them is worth.
        label: The class whose units come first (default: the units that matter most, or those
            that one class lifts most).
        room: Bytes of images that may be shown; further units get a line in a table.
    """
    effects = {} if ablation is None else {effect.unit: effect for effect in ablation.effects}
    ranks = {unit: rank for rank, unit in enumerate(effects)}
    units = sorted(gallery, key=lambda unit: (unit.steady, *_order(unit, ranks, label)))
    left = _Room(room)
    cards: list[_UnitCard] = []
    for unit in units:
        if left.left <= 0 or unit.steady:
            break
        cards.append(_card(unit, gallery, effects.get(unit.number), left))
    plain = [unit for unit in units[len(cards) :] if not unit.steady]
    name = gallery.layer.name
    # The best of a unit that never changes are the first rows: one class, where these are sorted.
    pure = sum(
        max(unit.mix.values()) * 2 > sum(unit.mix.values()) for unit in units if not unit.steady
    )
    count = len(units)
    title = f"{name}: {pure:,} of {counted(count, 'unit')} fire mostly for one class"
    said = section(
        f"units-{_word(name)}",
        title,
        "units.html",
        part="gallery",
        layer=gallery.layer,
        classes=gallery.classes,
        images=gallery.images,
        sees=gallery.sees,
        kept=max(sum(unit.mix.values()) for unit in units),
        folds=[cards[start : start + _FOLD] for start in range(0, len(cards), _FOLD)],
        cards=len(cards),
        units=count,
        plain=[(unit, effects.get(unit.number)) for unit in plain],
        steady=sorted(unit.number for unit in units if unit.steady),
        by=_by(label, ablation),
        label=label,
        measured=ablation is not None,
        named=_NAMED,
    )
    return [said] if ablation is None else [said, _ablation_section(ablation)]


def _order(unit: Unit, ranks: Mapping[int, int], label: str | None) -> tuple[float, float, int]:
    """Return by what units are sorted on the page."""
    lift = unit.selectivity[unit.favourite if label is None else label]
    # Units that were not switched off come behind those that were.
    return 0 if label is not None else ranks.get(unit.number, len(ranks)), -lift, unit.number


def _by(label: str | None, ablation: Ablation | None) -> str:
    if label is not None:
        return f"those that {label} lifts most first"
    if ablation is not None:
        return "those first without which most right answers are lost"
    return "those first that one class lifts most"


def _card(unit: Unit, gallery: UnitGallery, effect: UnitEffect | None, room: _Room) -> _UnitCard:
    best = []
    for image in unit.best:
        pixels = image.pixels
        height, width, _ = pixels.shape
        top, left, bottom, right = image.box
        part = image.box != (0, 0, height, width)
        frame = {
            "left": 100 * left / width,
            "top": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
        }
        patch = room.address(pixels[top:bottom, left:right])
        whole = room.address(pixels) if part else None
        best.append(_Best(image.name, image.label, image.value, patch, whole, frame))
    counted = list(unit.mix.items())
    lifts = sorted(unit.selectivity.items(), key=lambda item: -item[1])
    places = {name: place for place, name in enumerate(gallery.classes)}
    return _UnitCard(
        unit=unit,
        best=best,
        mix=counted[:_NAMED],
        others=sum(count for _, count in counted[_NAMED:]),
        bars=_bars(unit, gallery.classes),
        effect=effect,
        lifts=[(places[name], lift) for name, lift in lifts[:50] if lift >= _LIFTED],
    )


def _bars(unit: Unit, classes: Sequence[str]) -> list[_Bar]:
    """Return a bar for each class, or for those that lift the unit most; ends in percent."""
    names = list(classes)
    if len(names) > _BARS:
        names = sorted(names, key=lambda name: -unit.selectivity[name])[:_BARS]
    values = [unit.mean[name] or 0.0 for name in names]
    low, high = min(0.0, *values), max(0.0, *values)
    span = (high - low) or 1.0
    # The colours of the mix above.
    ranks = {name: rank for rank, name in enumerate(list(unit.mix)[:_NAMED], start=1)}
    return [
        _Bar(
            name,
            unit.mean[name],
            start=100 * (min(value, 0.0) - low) / span,
            width=100 * abs(value) / span,
            rank=ranks.get(name),
        )
        for name, value in zip(names, values, strict=True)
    ]


def _ablation_section(ablation: Ablation) -> Section:
    name, effects = ablation.layer, ablation.effects
    worst, some = effects[0], sum(bool(effect.matters_to) for effect in effects)
    title = f"{name}: no unit alone is shown to matter"
    if worst.shown and worst.change < 0:
        title = f"{name}: without unit {worst.unit}, accuracy falls by {-worst.change:.4f}"
    elif some:
        felt = [(effect.losses[label], effect.unit, label)
                for effect in effects for label in effect.matters_to]  # fmt: skip
        count, unit, label = max(felt, key=lambda item: item[0])
        answers = "answers" if count > 1 else "answer"
        title = f"{name}: without unit {unit}, {label} loses {count:,} right {answers}"
    return section(
        f"ablation-{_word(name)}",
        title,
        "units.html",
        part="ablation",
        accuracy=ablation.accuracy,
        images=sum(ablation.images.values()),
        tried=len(effects),
        matter=sum(effect.shown for effect in effects),
        matter_to_class=some,
        named=_NAMED,
        first=effects[:_ROWS],
        more=effects[_ROWS:_EFFECTS],
        left_out=max(0, len(effects) - _EFFECTS),
        # What each class comes to with all units, and without each of the first ones.
        whole={
            name: ablation.right[name] / count for name, count in ablation.images.items() if count
        },
        without=[(effect.unit, ablation.accuracy_by_class(effect)) for effect in effects[:_ROWS]]
        if len(ablation.images) <= _TABLE
        else [],
    )


def portrait_sections(portraits: Sequence[Portrait], *, room: int = ROOM) -> list[Section]:
    """Return the section about the classes.

    Args:
        portraits: One for each class.
        room: Bytes of images that may be shown; further classes are only named.
    """
    left, cards = _Room(room), []
    for portrait in portraits:
        if left.left <= 0:
            break
        rows = [
            (title, told, [
                {
                    "name": example.name,
                    "probability": example.probability,
                    "address": left.address(example.pixels),
                }
                for example in examples
            ])
            for title, told, examples in (
                ("Surest", "the network gives these the highest probability", portrait.surest),
                ("Most typical", "nearest to the mean of the class inside the network",
                 portrait.nearest),
                ("Least typical", "farthest from it: rare views, or something else",
                 portrait.farthest),
            )
        ]  # fmt: skip
        mean = None if portrait.mean is None else left.address(portrait.mean)
        cards.append({"label": portrait.label, "images": portrait.images, "mean": mean,
                      "rows": rows})  # fmt: skip
    said = section(
        "classes",
        f"What stands for {'each of' if len(portraits) > 2 else 'both of'} the "
        f"{len(portraits):,} classes",
        "units.html",
        part="classes",
        cards=cards,
        open=len(portraits) <= _OPEN,
        left_out=[portrait.label for portrait in portraits[len(cards) :]],
    )
    return [said]


def _word(name: str) -> str:
    """Return a layer's name as an anchor."""
    return re.sub(r"[^\w]+", "-", name)
