"""Why an image got its answer: heat maps, with two checks that each can fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from opsin.core.arrays import Doubles, Floats, Pixels
from opsin.core.events import SILENT, Watcher
from opsin.data.network_pixels import has_no_contrast
from opsin.inspection.occlusion import (
    Answer,
    Counterfactual,
    answers_without,
    counterfactual,
    fill_of,
    most_occluded,
    most_tried,
    occlusion_map,
    training_mean,
)
from opsin.onnx_files.onnx_graph import OnnxGraph, Subnetwork
from opsin.onnx_files.operators import OPERATORS
from opsin.onnx_files.postprocessing import IMAGES, PROBABILITIES
from opsin.runtime.classifier import Classifier

NO_MAPS: Final = "No heat maps: the image has no contrast, so no part of it stands out."
NO_WEIGHTS: Final = (
    "A model without weights cannot be compared with one of random weights: its map has passed or "
    "failed one check only."
)

# Pixels of the images that a network is asked about at once.
_PIXELS: Final = 1_000_000

#: A map that a network with random weights gives as well, by this rank correlation, is refused.
ALIKE: Final = 0.5
#: By how much of the area a map must beat chance at least, however small the spread of chance.
MARGIN: Final = 0.01

# Cells along the smaller side: single pixels hidden at random make noise, not gaps.
_CELLS: Final = 14
# Steps of a curve, and misplaced maps; fewer where each image costs more.
_STEPS, _ORDERS = 14, 10
_STEPS_LARGE, _ORDERS_LARGE = 6, 8
#: Seconds after which maps get no finer, and those that need gradients are left out.
SECONDS: Final = 7.0
# Maps that need gradients, the most telling first: their names, and how many gradients they take.
_BY_GRADIENTS: Final = {
    "grad-cam": ("Grad-CAM", 2),
    "saliency": ("Saliency", 2),
    "integrated-gradients": ("Integrated Gradients", 192),
}
_ORDER: Final = ("saliency", "grad-cam", "integrated-gradients", "occlusion")
# A gradient takes about as long as so many answers, until one is measured.
_GRADIENT: Final = 4
_LARGE: Final = 64 * 64
# Weights that are a layer's own; what normalises the pixels and answers stays.
_DRAWN: Final = ("weight", "bias", "points")


@dataclass(frozen=True)
class DeletionCurves:
    """The probability of a class while the image is hidden, or shown, cell by cell."""

    shares: Floats  # how much is hidden (or shown), 0 to 1, [S]
    deletion: Floats  # with the first cells hidden, [S]
    insertion: Floats  # with only the first cells shown, [S]

    @property
    def deletion_area(self) -> float:
        """Area below the deletion curve, 0 to 1; small is good."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """Area below the insertion curve, 0 to 1; large is good."""
        return float(np.trapezoid(self.insertion, self.shares))


@dataclass(frozen=True)
class RandomBaseline:
    """The curves of the same map at R places that have nothing to do with the image."""

    shares: Floats  # [S]
    deletion: Floats  # [R, S]
    insertion: Floats  # [R, S]

    @property
    def deletion_area(self) -> tuple[float, float]:
        """Mean of the areas below the deletion curves, and their standard deviation."""
        return _areas(self.deletion, self.shares)

    @property
    def insertion_area(self) -> tuple[float, float]:
        """Mean of the areas below the insertion curves, and their standard deviation."""
        return _areas(self.insertion, self.shares)


def _areas(curves: Floats, shares: Floats) -> tuple[float, float]:
    areas: Doubles = np.asarray(np.trapezoid(curves, shares, axis=1), np.float64)
    return float(areas.mean()), float(areas.std(ddof=1)) if len(areas) > 1 else 0.0


@dataclass(frozen=True)
class FaithfulnessVerdict:
    """Whether a map may be trusted; ``None`` if a check was impossible."""

    deletion: bool  # better than misplaced maps at hiding
    insertion: bool  # better than misplaced maps at showing
    sanity: bool | None  # not given by a network with random weights too
    likeness: float | None  # rank correlation with that network's map, -1 to 1
    reasons: tuple[str, ...]  # why not to trust it, each a clause

    @property
    def trusted(self) -> bool:
        """Whether it passed every check that could be made."""
        return not self.reasons

    @property
    def words(self) -> str:
        """The verdict in a line."""
        if self.reasons:
            return f"not to be trusted: {'; '.join(self.reasons)}"
        return "passes both checks" if self.sanity else "passes the one check that can be made"


def curves_of(
    answer: Answer, pixels: Pixels, heat: Floats, target: int, fill: Pixels, *, seed: int = 0
) -> DeletionCurves:
    """The deletion and insertion curves of a map, its large values first.

    V. Petsiuk, A. Das and K. Saenko, "RISE: randomized input sampling for explanation of black-box
    models", BMVC 2018. Square cells, fourteen along the smaller side, are hidden or shown
    together, as in W. Samek et al., "Evaluating the visualization of what a deep neural network
    has learned", IEEE TNNLS 2017: single pixels would make a noise that no network was trained
    on. Cells of one value come in a random order.
    """
    side = max(1, round(min(heat.shape) / _CELLS))
    rows, columns = (np.minimum(np.arange(n) // side, max(n // side - 1, 0)) for n in heat.shape)
    cells = rows[:, None] * (columns[-1] + 1) + columns[None]
    total = np.bincount(cells.ravel(), heat.ravel().astype(np.float64))
    value = total / np.bincount(cells.ravel())
    order = np.lexsort((np.random.default_rng(seed).random(len(value)), -value))
    steps = _STEPS if heat.size <= _LARGE else _STEPS_LARGE
    counts = np.unique(np.round(np.linspace(0, len(order), steps + 1)).astype(np.int64))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    hidden = rank[cells][None] < counts[:, None, None]
    # All hidden, and nothing hidden, are ends of both curves.
    both = np.concatenate([hidden, ~hidden[1:-1]])
    answers = answers_without(answer, pixels, both, fill)[:, target]
    deletion, between = answers[: len(hidden)], answers[len(hidden) :]
    shares = hidden.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    return DeletionCurves(shares, deletion, np.concatenate([deletion[-1:], between, deletion[:1]]))


def chance(
    answer: Answer, pixels: Pixels, heat: Floats, target: int, fill: Pixels, *, seed: int = 0
) -> RandomBaseline:
    """The curves of a map when it is misplaced: mirrored and moved at random.

    So chance is as smooth or as scattered as the map itself. Cells in any random order are no fair
    opponent: scattered gaps harm a network more than one large gap of the same area, so that every
    smooth map would lose at hiding and win at showing, wherever it lies. (Compare the toroidal
    shift for point patterns: H. W. Lotwick and B. W. Silverman, "Methods for analysing spatial
    processes of several types of points", JRSS B 1982.)
    """
    random = np.random.default_rng([seed, 1])
    orders = _ORDERS if heat.size <= _LARGE else _ORDERS_LARGE
    baseline = [
        curves_of(answer, pixels, _misplaced(heat, random), target, fill, seed=seed + number)
        for number in range(orders)
    ]
    return RandomBaseline(
        baseline[0].shares,
        np.stack([curves.deletion for curves in baseline]),
        np.stack([curves.insertion for curves in baseline]),
    )


def _misplaced(heat: Floats, random: np.random.Generator) -> Floats:
    """A map mirrored and rolled at random, by a quarter of one side at least."""
    sides = heat.shape
    shift = [int(random.integers(side)) for side in sides]
    along = int(random.integers(2))
    quarter = sides[along] // 4
    shift[along] = int(random.integers(quarter, sides[along] - quarter + 1))
    mirrored = heat[:: random.choice((-1, 1)), :: random.choice((-1, 1))]
    return np.roll(mirrored, shift, axis=(0, 1))


def assess_faithfulness(
    heat: Floats, curves: DeletionCurves, by_chance: RandomBaseline, random_heat: Floats | None
) -> FaithfulnessVerdict:
    """Decide whether a map may be trusted.

    It must be better than misplaced maps for deletion and for insertion: its area must lie on the
    right side of the mean of theirs by more than their standard deviation, and by more than 0.01.
    And the same method applied to a network with random weights must give another map: J. Adebayo
    et al., "Sanity checks for saliency maps", NeurIPS 2018; here the rank correlation of the
    values' sizes must be below 0.5.
    """
    mean, spread = by_chance.deletion_area
    deletion = mean - curves.deletion_area > max(spread, MARGIN)
    mean, spread = by_chance.insertion_area
    insertion = curves.insertion_area - mean > max(spread, MARGIN)
    same = None if random_heat is None else likeness(heat, random_heat)
    sanity = None if same is None else same < ALIKE
    if np.ptp(heat) == 0 or not np.isfinite(heat).all():
        return FaithfulnessVerdict(False, False, sanity, same, ("it is the same everywhere",))
    reasons = []
    if not deletion and not insertion:
        reasons.append("no better than chance")
    elif not deletion:
        reasons.append("hiding what it marks is no better than chance")
    elif not insertion:
        reasons.append("showing what it marks is no better than chance")
    if sanity is False:
        reasons.append("a network with random weights gives much the same map")
    return FaithfulnessVerdict(deletion, insertion, sanity, same, tuple(reasons))


def likeness(one: Floats, other: Floats) -> float:
    """The rank correlation of two maps' sizes (Spearman), -1 to 1; 0 if one is flat."""
    ranks = []
    for heat in (one, other):  # SciPy takes seconds to import
        _, of_value, counts = np.unique(np.abs(heat), return_inverse=True, return_counts=True)
        ranks.append((counts.cumsum() - counts / 2)[of_value.ravel()])
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    table: Doubles = np.asarray(np.corrcoef(ranks))
    return float(table[0, 1])


def random_weights(network: OnnxGraph, *, seed: int = 0) -> bytes | None:
    """The file with random weights in every layer; ``None`` if it has no weights."""
    names = [
        f"{layer.name}.{name}"
        for layer in network.layers
        for name, value in network.weights_of(layer.name).items()
        if name in _DRAWN and value.size
    ]
    # Other programs name weights freely: theirs are known by their positions.
    layers = {layer.name for layer in network.layers}
    by_place = (
        node.input[index]
        for node in network.nodes
        if layers.intersection(node.output) and node.op_type in OPERATORS
        for index in OPERATORS[node.op_type].learnt
        if index < len(node.input)
    )
    for name in by_place:
        value = network.weights.get(name)
        if value is not None and value.dtype == np.float32 and value.size > 1:
            names.append(name)
    random = np.random.default_rng([seed, 2])
    drawn = {}
    for name in dict.fromkeys(names):
        value = network.weights[name]
        new = random.normal(value.mean(), value.std(), value.shape)
        drawn[name] = new.astype(np.float32)
    return network.with_weights(drawn) if drawn else None


@dataclass(frozen=True)
class MethodHeat:
    """A heat map before it is checked, and that of a network with random weights, if any."""

    heat: Floats  # [H, W]; large values speak for the class, negative against it
    random: Floats | None
    notes: tuple[str, ...] = ()


#: The maps that need gradients, by method, each drawn when it is called, and why some are missing.
#: Takes the network, its file with random weights (``None``: it has none), the pixels, the class
#: and the fill. It is passed in, since gradients need PyTorch and this half runs without.
GradientMaps = Callable[
    [OnnxGraph, bytes | None, Pixels, int, Pixels],
    tuple[dict[str, Callable[[], MethodHeat]], list[str]],
]


@dataclass(frozen=True)
class HeatMap:
    """The heat map of one method for an image and a class, with its checks."""

    JSON: ClassVar = (
        "method trusted=verdict.trusted deletion=verdict.deletion insertion=verdict.insertion "
        "sanity=verdict.sanity likeness=verdict.likeness reasons=verdict.reasons "
        "deletion_area=curves.deletion_area insertion_area=curves.insertion_area "
        "deletion_chance=by_chance.deletion_area insertion_chance=by_chance.insertion_area "
        "notes heat=_rounded"
    )
    method: str  # ``saliency``, ``grad-cam``, ``integrated-gradients`` or ``occlusion``
    heat: Floats
    random_heat: Floats | None
    curves: DeletionCurves
    by_chance: RandomBaseline
    verdict: FaithfulnessVerdict
    notes: tuple[str, ...] = ()

    @property
    def _rounded(self) -> list[list[float]]:
        return [[float(f"{value:.5g}") for value in row] for row in self.heat.tolist()]


@dataclass(frozen=True)
class Decision:
    """Why an image got its answer."""

    JSON: ClassVar = "class=label probability answer maps counterfactual notes"
    pixels: Pixels  # [H, W, C]
    classes: tuple[str, ...]
    label: str  # the class that is explained
    probability: float
    answer: str
    fill: Pixels  # what hidden pixels become, [C]
    maps: tuple[HeatMap, ...]
    counterfactual: Counterfactual | None  # the smallest part found that changes the answer
    notes: tuple[str, ...]


def explain(
    classifier: Classifier,
    network: OnnxGraph,
    pixels: Pixels,
    *,
    target: int | None = None,
    gradient_maps: GradientMaps | None = None,
    seed: int = 0,
    seconds: float = SECONDS,
    watcher: Watcher = SILENT,
) -> Decision:
    """Heat maps of several methods for one image and one class, each checked.

    The occlusion map is always drawn and checked. After ``seconds`` it gets no finer; a method that
    needs gradients and would take longer, by what was measured so far, is left out, with a note.
    """
    end, classes = time.monotonic() + seconds, classifier.classes
    (row,) = classifier.probabilities(pixels[None])
    best = int(row.argmax())
    wanted = best if target is None else target
    fill = fill_of(pixels, training_mean(classifier))
    notes: list[str] = []

    def decision(maps: Sequence[HeatMap], changed: Counterfactual | None) -> Decision:
        of_class = classes[wanted], float(row[wanted]), classes[best]
        return Decision(pixels, classes, *of_class, fill, tuple(maps), changed, tuple(notes))

    if has_no_contrast(pixels):
        notes.append(NO_MAPS)
        return decision((), None)
    drawn, done = random_weights(network, seed=seed), 0

    def counted(ask: Answer) -> Answer:
        def answers(images: Pixels) -> Floats:
            nonlocal done
            rows = ask(images)
            done += len(images)
            watcher.advance(min(done, total))
            return rows

        return answers

    answer, networks = counted(classifier.probabilities), 1 if drawn is None else 2
    checks = _checks(pixels)
    total = (networks + (wanted != best)) * most_occluded(*pixels.shape[:2])
    total += checks + most_tried(*pixels.shape[:2])

    def checked(method: str, raw: MethodHeat) -> HeatMap:
        curves = curves_of(answer, pixels, raw.heat, wanted, fill, seed=seed)
        by_chance = chance(answer, pixels, raw.heat, wanted, fill, seed=seed)
        verdict = assess_faithfulness(raw.heat, curves, by_chance, raw.random)
        return HeatMap(method, raw.heat, raw.random, curves, by_chance, verdict, raw.notes)

    def occluded(ask: Answer, of: int) -> Floats:
        return occlusion_map(ask, pixels, of, fill, seconds=seconds / 7)

    watcher.begin("Heat maps and their checks", total, "images")
    started = time.monotonic()
    heat = occluded(answer, wanted)
    random = None if drawn is None else occluded(counted(_asking(drawn)), wanted)
    an_image = (time.monotonic() - started) / done
    maps = {"occlusion": checked("occlusion", MethodHeat(heat, random))}
    of_answer = heat if wanted == best else occluded(answer, best)
    changed = counterfactual(answer, pixels, of_answer, fill, classes)
    late = [] if gradient_maps is None else list(_BY_GRADIENTS)
    if gradient_maps is not None and end - time.monotonic() > (checks + _GRADIENT) * an_image:
        methods, missing = gradient_maps(network, drawn, pixels, wanted, fill)
        notes += missing
        for method, raw in _in_time(methods, end - checks * an_image, _GRADIENT * an_image):
            maps[method] = checked(method, raw)
        late = [method for method in methods if method not in maps]
    if drawn is None:
        notes.append(NO_WEIGHTS)
    notes += _left_out(late)
    watcher.end()
    return decision([maps[method] for method in _ORDER if method in maps], changed)


def _left_out(methods: Sequence[str]) -> list[str]:
    names = ", ".join(_BY_GRADIENTS[method][0] for method in methods)
    return [f"Left out, since this network takes too long for it: {names}."] if names else []


def _in_time(
    methods: Mapping[str, Callable[[], MethodHeat]], end: float, a_gradient: float
) -> Iterator[tuple[str, MethodHeat]]:
    """Those maps that are likely to be drawn before a moment, by the seconds of a gradient."""
    for method, (_, gradients) in _BY_GRADIENTS.items():
        started = time.monotonic()
        if method in methods and started + gradients * a_gradient < end:
            drawn = methods[method]()
            a_gradient = (time.monotonic() - started) / gradients
            yield method, drawn


def _checks(pixels: Pixels) -> int:
    """How many images the check of a map takes, at most."""
    large = pixels.shape[0] * pixels.shape[1] > _LARGE
    steps, orders = (_STEPS_LARGE, _ORDERS_LARGE) if large else (_STEPS, _ORDERS)
    return (orders + 1) * 2 * steps


def _asking(content: bytes) -> Answer:
    part = Subnetwork(content)

    def answer(images: Pixels) -> Floats:
        size = max(8, _PIXELS // (images.shape[1] * images.shape[2]))
        parts = (images[start : start + size] for start in range(0, len(images), size))
        return np.concatenate([part.run({IMAGES: some})[PROBABILITIES] for some in parts])

    return answer
