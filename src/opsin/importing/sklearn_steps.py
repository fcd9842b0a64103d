"""Steps in front of a classifier of scikit-learn: numbers out of a file become operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from opsin.importing.skops_file import SkopsObject
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.refusal import quoted, refused

#: Most numbers of an image.
MOST_UNITS: Final = 1 << 22
# As scikit-learn keeps a component that does not vary from being divided by nothing.
_LEAST_DEVIATION: Final = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class WrittenStep:
    """What a step became, as the summary table shows it."""

    value: str
    units: int
    parameters: int
    multiply_adds: int


def write_step(
    to: GraphWriter, step: SkopsObject, name: str, source: str, units: int
) -> WrittenStep:
    """Write what a step does with an image's numbers, as a value of its name, ``float64[N, D]``."""
    write = STEPS.get(step.kind)
    if write is None:
        raise refused(
            step.file.name, f"its step {step.kind} is not known here",
            f"Known are {', '.join(STEPS)}.",
        )  # fmt: skip
    step.whole("n_features_in_", units, units)
    written = write(to, step, name, source, units)
    to.node("Identity", [written.value], name)
    return written


def _standard(to: GraphWriter, step: SkopsObject, name: str, value: str, units: int) -> WrittenStep:
    held = 0
    if step.plain("with_mean"):
        mean = to.weight(f"{name}.mean", step.numbers("mean_", units), np.float64)
        value = to.node("Sub", [value, mean], f"{name}.centred")
        held += units
    if step.plain("with_std"):
        scale = step.numbers("scale_", units)
        if not scale.all():
            raise refused(step.file.name, f"scale_ of its {step.kind} divides by 0")
        value = to.node("Div", [value, to.weight(f"{name}.scale", scale, np.float64)],
                        f"{name}.scaled")  # fmt: skip
        held += units
    return WrittenStep(value, units, held, units)


def _min_max(to: GraphWriter, step: SkopsObject, name: str, value: str, units: int) -> WrittenStep:
    scale = to.weight(f"{name}.scale", step.numbers("scale_", units), np.float64)
    shift = to.weight(f"{name}.min", step.numbers("min_", units), np.float64)
    value = to.node("Mul", [value, scale], f"{name}.scaled")
    value = to.node("Add", [value, shift], f"{name}.moved")
    if "clip" in step and step.plain("clip"):
        ends = [each.value for each in step.items("feature_range")]
        if len(ends) != 2 or not all(isinstance(each, int | float) for each in ends):
            raise refused(step.file.name, f"feature_range of its {step.kind} is {quoted(ends)}")
        names = [to.weight(f"{name}.{end}", each, np.float64)
                 for end, each in zip(("least", "most"), ends, strict=True)]  # fmt: skip
        value = to.node("Clip", [value, *names], f"{name}.clipped")
    return WrittenStep(value, units, 2 * units, units)


def _components(
    to: GraphWriter, step: SkopsObject, name: str, value: str, units: int
) -> WrittenStep:
    weight = step.numbers("components_", None, units)
    mean = to.weight(f"{name}.mean", step.numbers("mean_", units), np.float64)
    held = weight.size + units
    if step.plain("whiten"):
        deviation = np.sqrt(np.maximum(step.numbers("explained_variance_", len(weight)), 0))
        weight = weight / np.maximum(deviation, _LEAST_DEVIATION)[:, None]
    value = to.node("Sub", [value, mean], f"{name}.centred")
    turned = to.weight(f"{name}.components", weight.T, np.float64)
    value = to.node("MatMul", [value, turned], f"{name}.projected")
    return WrittenStep(value, len(weight), held, weight.size)


#: How each class of a step is written.
STEPS: Final[dict[str, Callable[[GraphWriter, SkopsObject, str, str, int], WrittenStep]]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "PCA": _components,
}
