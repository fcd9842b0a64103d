"""Sections that explain an image's answer."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Floats, Pixels
from opsin.data.pixel_values import png_address
from opsin.report.maps import PALETTES, Scale, indexed_address, small
from opsin.report.templates import Section, section

if TYPE_CHECKING:
    from opsin.inspection.decision import Decision, HeatMap
    from opsin.inspection.neighbours import Neighbour

# Longest side of a heat map on the page, in pixels.
_SIDE: Final = 224
# A few pixels of a map may be much larger than the rest; they share the brightest colour.
_BRIGHTEST: Final = 0.995
# Opacity of a map over an image.
_COVER: Final = 0.6
# The plain of a chart, in its own units.
_WIDTH, _HEIGHT = 120.0, 60.0

_NUMBERS: Final = ("None", "One", "Two", "Three", "Four")


class Method(NamedTuple):
    """A kind of heat map: its name, explanation and paper."""

    title: str
    what: str
    source: str


METHODS: Final = {
    "saliency": Method(
        "Saliency",
        "How much the class's score would change if a pixel became a little brighter or darker: "
        "the size of the gradient. Quick, but noisy: it tells what the network is sensitive to, "
        "not what it uses.",
        "Simonyan, Vedaldi and Zisserman, “Deep inside convolutional networks”, 2014",
    ),
    "grad-cam": Method(
        "Grad-CAM",
        "Where the last layer that still has maps speaks for the class: its maps, weighted by "
        "their gradients, added up and enlarged. Coarse, since that layer's maps are small.",
        "Selvaraju et al., “Grad-CAM: visual explanations from deep networks”, 2017",
    ),
    "integrated-gradients": Method(
        "Integrated Gradients",
        "What each pixel adds to the class's score on the way from an image of the training "
        "images' mean colour to this one. The parts add up to the whole; what speaks against the "
        "class stays dark.",
        "Sundararajan, Taly and Yan, “Axiomatic attribution for deep networks”, 2017",
    ),
    "occlusion": Method(
        "Occlusion",
        "By how much the class's probability falls when a patch is hidden, for patches all over "
        "the image. It asks the network itself and needs no gradients; what shows only when two "
        "places are hidden together it misses.",
        "Zeiler and Fergus, “Visualizing and understanding convolutional networks”, 2014",
    ),
}


class _Chart(NamedTuple):
    """The probability while the image is hidden, or shown, as points of a chart."""

    title: str
    words: str
    line: str
    chance: str  # the mean of the map put elsewhere at random, and the deviation around it
    band: str


def decision_sections(
    decision: Decision, neighbours: Sequence[Neighbour] = (), *, actual: int | None = None
) -> list[Section]:
    """The parts of a page that explain an image's answer."""
    pixels, changed = decision.pixels, decision.counterfactual
    height, width, _ = pixels.shape
    part = functools.partial(
        section,
        template="decision.html",
        decision=decision,
        ratio=f"{width} / {height}",
        size=(width, height),
        image=png_address(small(pixels, _SIDE)),
    )
    grey = png_address(small(_grey(pixels), _SIDE))
    maps = functools.partial(part, part="maps", methods=METHODS, grey=grey)
    sections = [maps("decision", _title(decision), coloured=_coloured, charts=_charts)]
    if decision.maps:  # otherwise no part was looked for either
        without = None if changed is None else png_address(small(changed.pixels, _SIDE))
        title = counterfactual_words(decision)
        sections.append(part("part", title, part="counterfactual", changed=without))
    if neighbours:
        title = neighbours_words(neighbours, decision)
        sections.append(
            part("neighbours", title, part="neighbours", neighbours=neighbours, actual=actual)
        )
    return sections


def counterfactual_words(decision: Decision) -> str:
    """Say it like ``Hiding this 9×9 patch turns Ankle boot (99%) into Sneaker (61%)``."""
    change = decision.counterfactual
    if change is None:
        return f"No part alone decides that this is {decision.answer}"
    part = f"these {change.share:.0%} of the image"
    if change.box is not None:
        top, left, bottom, right = change.box
        part = f"this {right - left}×{bottom - top} patch"
    before = f"{change.before} ({change.before_probability:.0%})"
    after = f"{change.after} ({change.after_probability:.0%})"
    return f"Hiding {part} turns {before} into {after}"


def neighbours_words(neighbours: Sequence[Neighbour], decision: Decision) -> str:
    """Say it like ``7 of the 9 training images most like it are Ankle boot``."""
    (label, count), *_ = Counter(neighbour.label for neighbour in neighbours).most_common(1)
    name, total = decision.classes[label], len(neighbours)
    if total == 1:
        return f"The training image most like it is {name}"
    if count == total:
        return f"The {total} training images most like it are all {name}"
    return f"{count} of the {total} training images most like it are {name}"


def _title(decision: Decision) -> str:
    good, total = sum(heat_map.verdict.trusted for heat_map in decision.maps), len(decision.maps)
    verdict = "No heat maps were drawn"
    if total == 1:
        verdict = "The heat map can be trusted" if good else "The heat map is not to be trusted"
    elif total:
        some = f"{_NUMBERS[good]} of" if good < total else "All"
        verdict = f"{some} {_NUMBERS[total].lower()} heat maps can be trusted"
    return f"Why {decision.label}? {verdict}"


def _charts(heat_map: HeatMap) -> list[_Chart]:
    own, chance = heat_map.curves, heat_map.by_chance
    charts = []
    for title, kind in (
        ("Hidden first: low is good", "deletion"),
        ("Shown first: high is good", "insertion"),
    ):
        areas, by_chance = getattr(chance, f"{kind}_area"), getattr(chance, kind)
        area = f"area {getattr(own, f'{kind}_area'):.2f}"
        mean, spread = by_chance.mean(axis=0), by_chance.std(axis=0)
        line, middle, upper, lower = (
            _points(own.shares, values)
            for values in (getattr(own, kind), mean, mean + spread, mean - spread)
        )
        parts = (" ".join(points) for points in (line, middle, [*upper, *lower[::-1]]))
        charts.append(_Chart(title, f"{area}, by chance {areas[0]:.2f} ± {areas[1]:.2f}", *parts))
    return charts


def _places(heat: Floats) -> Pixels:
    """A map's indices of colours; negative values are as dark as 0."""
    brightest = float(np.quantile(heat, _BRIGHTEST))
    if brightest <= 0:
        brightest = max(float(heat.max()), 1e-30)
    return Scale(0.0, brightest, "viridis").places(heat)


def _coloured(heat: Floats) -> str:
    """A map in viridis as the address of an image."""
    every = -(-max(heat.shape) // _SIDE)
    return indexed_address(_places(heat[::every, ::every]), "viridis")


def overlay(pixels: Pixels, heat: Floats) -> Pixels:
    """A map in viridis over the grey image, ``uint8[H, W, 3]``."""
    mixed = _COVER * PALETTES["viridis"][_places(heat)] + (1 - _COVER) * _grey(pixels)
    return np.asarray(np.rint(mixed), np.uint8)


def _grey(pixels: Pixels) -> Pixels:
    """An image in grey, by the weights of ITU-R BT.601."""
    if pixels.shape[2] == 1:
        return pixels
    grey: Pixels = (pixels @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return grey[:, :, None]


def _points(shares: NDArray[Any], values: NDArray[Any]) -> list[str]:
    heights = _HEIGHT * (1 - np.clip(values, 0, 1))
    return [f"{_WIDTH * x:.1f},{y:.1f}" for x, y in zip(shares, heights, strict=True)]
