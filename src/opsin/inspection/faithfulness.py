"""Two checks that a heat map can fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.core.stored_json import JsonObject
from opsin.inspection.occlusion import Answer, answers_without
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.onnx_files.operators import OPERATORS

try:
    from scipy.stats import rankdata
except ImportError as error:
    raise MissingExtraError("the checks of heat maps", "evaluate") from error

#: A map that a network with random weights gives as well, by this rank correlation, is refused.
ALIKE: Final = 0.5
#: By how much of the area a map must beat chance at least, however small the spread of chance.
MARGIN: Final = 0.01

# Cells along the smaller side: single pixels hidden at random make noise, not gaps.
_CELLS: Final = 14
# Steps of a curve, and misplaced maps; fewer where each image costs more.
_STEPS, _ORDERS = 14, 10
_STEPS_LARGE, _ORDERS_LARGE = 8, 8
_LARGE: Final = 64 * 64
# Weights that are a layer's own; what normalises the pixels and answers stays.
_DRAWN: Final = ("weight", "bias", "points")


@dataclass(frozen=True)
class DeletionCurves:
    """The probability of a class while the image is hidden, or shown, cell by cell.

    Args:
        shares: How much is hidden (or shown), 0 to 1, ``float32[S]``.
        deletion: Probability with the first cells of an order hidden, ``float32[S]``.
        insertion: Probability with only the first cells shown, ``float32[S]``.
    """

    shares: NDArray[np.float32]
    deletion: NDArray[np.float32]
    insertion: NDArray[np.float32]

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
    """What the same map reaches at places that have nothing to do with the image.

    Args:
        shares: How much is hidden (or shown), 0 to 1, ``float32[S]``.
        deletion: Probability with so much hidden, one misplaced map a row, ``float32[R, S]``.
        insertion: Probability with only so much shown, ``float32[R, S]``.
    """

    shares: NDArray[np.float32]
    deletion: NDArray[np.float32]
    insertion: NDArray[np.float32]

    @property
    def deletion_area(self) -> tuple[float, float]:
        """Mean of the areas below the deletion curves, and their standard deviation."""
        return _areas(self.deletion, self.shares)

    @property
    def insertion_area(self) -> tuple[float, float]:
        """Mean of the areas below the insertion curves, and their standard deviation."""
        return _areas(self.insertion, self.shares)


@dataclass(frozen=True)
class FaithfulnessVerdict:
    """Whether a map may be trusted.

    Args:
        deletion: Better than misplaced maps at hiding.
        insertion: Better than misplaced maps at showing.
        sanity: Not given by a network with random weights too; ``None``: could not be checked.
        likeness: Rank correlation with that network's map, -1 to 1; ``None``: could not be checked.
        reasons: Why not to trust it, each a clause; none where it passed.
    """

    deletion: bool
    insertion: bool
    sanity: bool | None
    likeness: float | None
    reasons: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether it passed every check that could be made."""
        return not self.reasons

    @property
    def words(self) -> str:
        """The verdict in a line.

        Example:
            >>> FaithfulnessVerdict(True, True, True, 0.1, ()).words
            'passes both checks'
        """
        if self.reasons:
            return f"not to be trusted: {'; '.join(self.reasons)}"
        return "passes both checks" if self.sanity else "passes the one check that can be made"

    def to_json(self) -> JsonObject:
        """Return the verdict as plain data."""
        return {
            "trusted": self.trusted,
            "deletion": self.deletion,
            "insertion": self.insertion,
            "sanity": self.sanity,
            "likeness": self.likeness,
            "reasons": list(self.reasons),
        }


def curves_of(
    answer: Answer,
    pixels: NDArray[np.uint8],
    heat: NDArray[np.float32],
    target: int,
    fill: NDArray[np.uint8],
    *,
    seed: int = 0,
) -> DeletionCurves:
    """Return the deletion and insertion curves of a map.

    V. Petsiuk, A. Das and K. Saenko, "RISE: randomized input sampling for explanation of black-box
    models", BMVC 2018. Square cells, fourteen along the smaller side, are hidden or shown
    together, as in W. Samek et al., "Evaluating the visualization of what a deep neural network
    has learned", IEEE TNNLS 2017: single pixels would make a noise that no network was trained
    on. Cells of one value come in a random order.

    Args:
        answer: Gives the probabilities.
        pixels: A prepared image, ``uint8[H, W, C]``.
        heat: The map, ``float32[H, W]``; large values first.
        target: The class, a place among the probabilities.
        fill: What hidden pixels become, ``uint8[C]``: the mean of the training images.
        seed: Orders cells of one value.

    Example:
        >>> def left(images):
        ...     light = images[:, :, :14].mean(axis=(1, 2, 3)) / 255
        ...     return np.stack([light, 1 - light], axis=1).astype(np.float32)
        >>> white, black = np.full((28, 28, 1), 255, np.uint8), np.zeros(1, np.uint8)
        >>> good = np.zeros((28, 28), np.float32)
        >>> good[:, :14] = 1
        >>> found = curves_of(left, white, good, 0, black)
        >>> round(found.deletion_area, 2), round(found.insertion_area, 2)
        (0.25, 0.75)
    """
    cells = _cells(heat.shape)
    total = np.bincount(cells.ravel(), heat.ravel().astype(np.float64))
    value = total / np.bincount(cells.ravel())
    order = np.lexsort((np.random.default_rng(seed).random(len(value)), -value))
    hidden = _hidden(cells, order, heat.size)
    rows = answers_without(answer, pixels, np.concatenate([hidden, ~hidden]), fill)[:, target]
    shares = hidden.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    return DeletionCurves(shares, rows[: len(hidden)], rows[len(hidden) :])


def chance(
    answer: Answer,
    pixels: NDArray[np.uint8],
    heat: NDArray[np.float32],
    target: int,
    fill: NDArray[np.uint8],
    *,
    seed: int = 0,
) -> RandomBaseline:
    """Return what the map reaches when it is misplaced: mirrored and moved at random.

    What leaves an edge comes in at the opposite one, and along one side the map moves by a quarter
    at least. So chance is as smooth or as scattered as the map itself. Cells in any random order
    are no fair opponent: scattered gaps harm a network more than one large gap of the same area,
    so that every smooth map would lose at hiding and win at showing, wherever it lies. (The same
    thought as the toroidal shift for point patterns: H. W. Lotwick and B. W. Silverman, "Methods
    for analysing spatial processes of several types of points", JRSS B 1982.)

    Args:
        answer: Gives the probabilities.
        pixels: A prepared image, ``uint8[H, W, C]``.
        heat: The map, ``float32[H, W]``.
        target: The class, a place among the probabilities.
        fill: What hidden pixels become, ``uint8[C]``.
        seed: Decides where the map is put: ten times, eight times for images beyond 64×64.
    """
    random = np.random.default_rng([seed, 1])
    orders = _ORDERS if heat.size <= _LARGE else _ORDERS_LARGE
    found = [
        curves_of(answer, pixels, _misplaced(heat, random), target, fill, seed=seed + number)
        for number in range(orders)
    ]
    return RandomBaseline(
        found[0].shares,
        np.stack([each.deletion for each in found]),
        np.stack([each.insertion for each in found]),
    )


def assess_faithfulness(
    heat: NDArray[np.float32],
    curves: DeletionCurves,
    by_chance: RandomBaseline,
    random_heat: NDArray[np.float32] | None,
) -> FaithfulnessVerdict:
    """Decide whether a map may be trusted.

    It must be better than misplaced maps for deletion and for insertion: its area must lie on the
    right side of the mean of theirs by more than their standard deviation, and by more than 0.01.
    And the same method applied to a network with random weights must give another map: J. Adebayo
    et al., "Sanity checks for saliency maps", NeurIPS 2018; here the rank correlation of the
    values' sizes must be below 0.5.

    Args:
        heat: The map, ``float32[H, W]``.
        curves: Its curves.
        by_chance: Those of the map when it is misplaced.
        random_heat: The map of the network with random weights, or ``None`` where there is none.

    Example:
        >>> flat = np.zeros((4, 4), np.float32)
        >>> half = np.linspace(1, 0, 5, dtype=np.float32)
        >>> by_chance = RandomBaseline(half[::-1], np.stack([half, half]), np.stack([half, half]))
        >>> assess_faithfulness(flat, DeletionCurves(half[::-1], half, half), by_chance, None).words
        'not to be trusted: it is the same everywhere'
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


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the rank correlation of two maps' sizes (Spearman), -1 to 1; 0 where one is flat.

    Args:
        one: ``float32[H, W]``
        other: ``float32[H, W]``

    Example:
        >>> rising = np.arange(9, dtype=np.float32).reshape(3, 3)
        >>> round(likeness(rising, -(rising**3)), 3), likeness(rising, rising * 0)
        (1.0, 0.0)
    """
    ranks = [rankdata(np.abs(each), axis=None) for each in (one, other)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    table: NDArray[np.float64] = np.asarray(np.corrcoef(ranks))
    return float(table[0, 1])


def random_weights(network: OnnxGraph, *, seed: int = 0) -> bytes | None:
    """Return the file with the weights of every layer drawn anew; ``None``: it has none to draw.

    Each array of weights, biases or stored images is exchanged for one of the same mean and
    deviation (a normal distribution). The running averages of BatchNorm, what normalises the
    pixels and what calibrates the answers stay.

    Args:
        network: The network in the file.
        seed: Decides what is drawn.
    """
    random = np.random.default_rng([seed, 2])
    drawn = {}
    for layer in network.layers:
        for name, value in network.weights_of(layer.name).items():
            if name in _DRAWN and value.size:
                new = random.normal(value.mean(), value.std(), value.shape)
                drawn[f"{layer.name}.{name}"] = new.astype(np.float32)
    for name in _weights_of_others(network):
        if name not in drawn:
            value = network.weights[name]
            new = random.normal(value.mean(), value.std(), value.shape)
            drawn[name] = new.astype(np.float32)
    return network.with_weights(drawn) if drawn else None


def _weights_of_others(network: OnnxGraph) -> list[str]:
    """Return the weights of layers by their places: others than Opsin call them as they like."""
    layers = {layer.name for layer in network.layers}
    named = (
        node.input[place]
        for node in network.nodes
        if layers.intersection(node.output) and node.op_type in OPERATORS
        for place in OPERATORS[node.op_type].learnt
        if place < len(node.input)
    )
    found = (name for name in named if name in network.weights)
    return [
        name for name in dict.fromkeys(found)
        if network.weights[name].dtype == np.float32 and network.weights[name].size > 1
    ]  # fmt: skip


def _areas(curves: NDArray[np.float32], shares: NDArray[np.float32]) -> tuple[float, float]:
    """Return the mean area below curves, and its standard deviation."""
    areas = [float(np.trapezoid(curve, shares)) for curve in curves]
    return float(np.mean(areas)), float(np.std(areas, ddof=1)) if len(areas) > 1 else 0.0


def _misplaced(heat: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Return a map mirrored and moved at random, by a quarter of one side at least."""
    sides = heat.shape
    shift = [int(random.integers(side)) for side in sides]
    along = int(random.integers(2))
    quarter = sides[along] // 4
    shift[along] = int(random.integers(quarter, sides[along] - quarter + 1))
    mirrored = heat[:: random.choice((-1, 1)), :: random.choice((-1, 1))]
    return np.roll(mirrored, shift, axis=(0, 1))


def _cells(size: tuple[int, ...]) -> NDArray[np.int64]:
    """Return which square cell each pixel is in, ``int64[H, W]``, numbered from 0."""
    side = max(1, round(min(size) / _CELLS))
    rows, columns = (np.minimum(np.arange(n) // side, max(n // side - 1, 0)) for n in size)
    numbers: NDArray[np.int64] = rows[:, None] * (columns[-1] + 1) + columns[None]
    return numbers


def _hidden(cells: NDArray[np.int64], order: NDArray[np.int64], pixels: int) -> NDArray[np.bool_]:
    """Return what is hidden step by step when cells go in an order, from nothing to everything."""
    steps = _STEPS if pixels <= _LARGE else _STEPS_LARGE
    counts = np.unique(np.round(np.linspace(0, len(order), steps + 1)).astype(np.int64))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[cells][None] < counts[:, None, None]
