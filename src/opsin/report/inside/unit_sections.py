"""Sections on units and on classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opsin.core.arrays import Pixels
from opsin.core.format import counted
from opsin.report.maps import image_address
from opsin.report.templates import Section, section

if TYPE_CHECKING:
    from opsin.inspection.ablation import Ablation, UnitEffect
    from opsin.inspection.units import TopActivation, Unit, UnitGallery

#: Most bytes of images in a section, so that the page stays quick.
ROOM: Final = 8_000_000
# Cards in a fold, classes with a bar, classes named in a mix, and rows of a table before its fold.
_FOLD, _BARS, _NAMED, _ROWS = 24, 12, 3, 12
# Most classes with a column in a table.
_TABLE: Final = 25
# Most effects in a table; the rest is in the JSON.
_EFFECTS: Final = 500
# Least lift of a class that a unit can be found by.
_LIFTED: Final = 0.1


@dataclass
class _Room:
    """Bytes left for images."""

    left: int

    def address(self, pixels: Pixels) -> str:
        address = image_address(pixels)
        self.left -= len(address)
        return address


@dataclass(frozen=True)
class _Best:
    """A top activation: addresses of the patch, and of the whole image."""

    shown: TopActivation
    patch: str
    whole: str | None  # if that is more than the patch
    frame: tuple[float, ...]  # where the patch lies: left, top, width, height in percent

    @classmethod
    def of(cls, shown: TopActivation, room: _Room) -> _Best:
        pixels = shown.pixels
        height, width, _ = pixels.shape
        top, left, bottom, right = shown.box
        part = shown.box != (0, 0, height, width)
        shares = (left / width, top / height, (right - left) / width, (bottom - top) / height)
        patch, whole = pixels[top:bottom, left:right], room.address(pixels) if part else None
        return cls(shown, room.address(patch), whole, tuple(100 * share for share in shares))


@dataclass(frozen=True)
class _Card:
    """A unit with its images, and its effect if measured."""

    unit: Unit
    best: list[_Best]
    classes: Sequence[str]
    effect: UnitEffect | None

    @property
    def cut(self) -> bool:
        """Whether it sees only a part of some images."""
        return any(image.whole for image in self.best)

    @property
    def total(self) -> int:
        """Number of its top activations."""
        return sum(self.unit.mix.values())

    @property
    def mix(self) -> list[tuple[str, int]]:
        """Their commonest classes with counts."""
        return list(self.unit.mix.items())[:_NAMED]

    @property
    def others(self) -> int:
        return self.total - sum(count for _, count in self.mix)

    @property
    def lifts(self) -> list[tuple[int, float]]:
        """The classes that lift it, by index, and how far."""
        lifts = sorted(self.unit.selectivity.items(), key=lambda item: -item[1])
        indices = {name: index for index, name in enumerate(self.classes)}
        return [(indices[name], lift) for name, lift in lifts[:50] if lift >= _LIFTED]

    @property
    def bars(self) -> list[tuple[str, float | None, float, float, int | None]]:
        """Name, mean activity, start and width in percent, and rank in the mix, of classes."""
        names = list(self.classes)
        if len(names) > _BARS:
            names = sorted(names, key=lambda name: -self.unit.selectivity[name])[:_BARS]
        means = [self.unit.mean[name] for name in names]
        values = [mean or 0.0 for mean in means]
        low, high = min(0.0, *values), max(0.0, *values)
        percent = 100 / ((high - low) or 1.0)
        ranks = {name: rank for rank, (name, _) in enumerate(self.mix, start=1)}
        return [
            (name, mean, percent * (min(value, 0.0) - low), percent * abs(value), ranks.get(name))
            for name, mean, value in zip(names, means, values, strict=True)
        ]


def unit_sections(
    gallery: UnitGallery, ablation: Ablation | None, *, label: str | None = None, room: int = ROOM
) -> list[Section]:
    """Return the sections about the units of one layer."""
    effects = {} if ablation is None else {effect.unit: effect for effect in ablation.effects}
    ranks = {unit: rank for rank, unit in enumerate(effects)}

    def order(unit: Unit) -> tuple[bool, int, float, int]:
        lift = unit.selectivity[unit.favourite if label is None else label]
        # Units that were not switched off come behind those that were.
        rank = 0 if label is not None else ranks.get(unit.number, len(ranks))
        return unit.constant, rank, -lift, unit.number

    units = sorted(gallery.units, key=order)
    moving = [unit for unit in units if not unit.constant]
    left = _Room(room)
    cards: list[_Card] = []
    for unit in moving:
        if left.left <= 0:
            break
        best = [_Best.of(image, left) for image in unit.best]
        cards.append(_Card(unit, best, gallery.classes, effects.get(unit.number)))
    name = gallery.layer.name
    # The best of a unit that never changes are the first rows: one class, where these are sorted.
    pure = sum(max(unit.mix.values()) * 2 > sum(unit.mix.values()) for unit in moving)
    by = "those first that one class lifts most"
    if label is not None:
        by = f"those that {label} lifts most first"
    elif ablation is not None:
        by = "those first without which most right answers are lost"
    gallery_section = section(
        f"units-{_word(name)}",
        f"{name}: {pure:,} of {counted(len(units), 'unit')} fire mostly for one class",
        "units.html",
        part="gallery",
        gallery=gallery,
        kept=max(sum(unit.mix.values()) for unit in units),
        folds=[cards[start : start + _FOLD] for start in range(0, len(cards), _FOLD)],
        cards=len(cards),
        units=len(units),
        plain=[(unit, effects.get(unit.number)) for unit in moving[len(cards) :]],
        constant=sorted(unit.number for unit in units if unit.constant),
        by=by,
        label=label,
        measured=ablation is not None,
        named=_NAMED,
    )
    return [gallery_section, *([] if ablation is None else [_ablation_section(ablation)])]


def _ablation_section(ablation: Ablation) -> Section:
    name, effects = ablation.layer, ablation.effects
    worst = effects[0]
    felt = [(each.losses[label], each.unit, label) for each in effects for label in each.matters_to]
    title = f"{name}: no unit alone is shown to matter"
    if worst.shown and worst.change < 0:
        title = f"{name}: without unit {worst.unit}, accuracy falls by {-worst.change:.4f}"
    elif felt:
        count, unit, label = max(felt, key=lambda item: item[0])
        title = f"{name}: without unit {unit}, {label} loses {counted(count, 'right answer')}"
    return section(
        f"ablation-{_word(name)}",
        title,
        "units.html",
        part="ablation",
        ablation=ablation,
        images=sum(ablation.images.values()),
        matter=sum(effect.shown for effect in effects),
        matter_to_class=sum(bool(effect.matters_to) for effect in effects),
        named=_NAMED,
        first=effects[:_ROWS],
        more=effects[_ROWS:_EFFECTS],
        left_out=max(0, len(effects) - _EFFECTS),
        # Accuracy of each class with all units, and without each of the first ones.
        whole={
            name: ablation.right[name] / count for name, count in ablation.images.items() if count
        },
        without=effects[:_ROWS] if len(ablation.images) <= _TABLE else (),
    )


def _word(name: str) -> str:
    return re.sub(r"[^\w]+", "-", name)
