"""How near an image is to each of some points: what neighbours and kernel machines begin with."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from opsin.onnx_files.graph_writer import GraphWriter

#: What scikit-learn calls a kernel.
KernelName = Literal["rbf", "linear", "poly", "sigmoid"]
#: All of them.
KERNELS = get_args(KernelName)


def half_distances(to: GraphWriter, source: str, points: NDArray[np.float32]) -> str:
    """Return half the squared distances to points, but for half the image's own square."""
    kept = to.weight("head.points", points.T, np.float32)
    double = to.node("Cast", [kept], "head.double", to=TensorProto.DOUBLE)
    halves = (points.astype(np.float32).astype(np.float64) ** 2).sum(axis=1) / 2
    lengths = to.weight("head.lengths", halves, np.float64)
    image = to.node("Cast", [source], "head.image", to=TensorProto.DOUBLE)
    products = to.node("MatMul", [image, double], "head.products")
    return to.node("Sub", [lengths, products], "head.halves")


def gaussian_kernel(to: GraphWriter, source: str, points: NDArray[np.float32], gamma: float) -> str:
    """Write how near an image is to each of some points, by a Gaussian."""
    halves = half_distances(to, source, points)
    axis = to.weight("head.axis", [1], np.int64)
    own = to.node("ReduceSumSquare", ["head.image", axis], "head.own", keepdims=1)
    own = to.node("Mul", [own, to.weight("head.half", 0.5, np.float64)], "head.own.half")
    distances = to.node("Add", [halves, own], "head.distances")
    width = to.weight("head.gamma", -2 * gamma, np.float64)
    return to.node("Exp", [to.node("Mul", [distances, width], "head.scaled")], "head.kernel")


def kernel(
    to: GraphWriter,
    source: str,
    points: NDArray[np.float32],
    *,
    name: KernelName,
    gamma: float,
    degree: float,
    shift: float,
) -> str:
    """Write a kernel between an image and some points, ``float64[N, M]``."""
    if name == "rbf":
        return gaussian_kernel(to, source, points, gamma)
    kept = to.weight("head.points", points.T, np.float32)
    double = to.node("Cast", [kept], "head.double", to=TensorProto.DOUBLE)
    image = to.node("Cast", [source], "head.image", to=TensorProto.DOUBLE)
    products = to.node("MatMul", [image, double], "head.products")
    if name == "linear":
        return products
    width = to.weight("head.gamma", gamma, np.float64)
    scaled = to.node("Mul", [products, width], "head.scaled")
    raised = to.node("Add", [scaled, to.weight("head.shift", shift, np.float64)], "head.raised")
    if name == "sigmoid":
        return to.node("Tanh", [raised], "head.kernel")
    return to.node("Pow", [raised, to.weight("head.degree", degree, np.float64)], "head.kernel")
