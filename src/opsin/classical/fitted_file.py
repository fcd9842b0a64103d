"""Export of a fitted model: operators that answer as scikit-learn does.

`skl2onnx` would do for some: its 1.20 spends twice the bytes on a forest's node, and its nearest
neighbours need operators that are no standard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from opsin.classical.backbone_head import BackboneFeatures
from opsin.classical.classical_recipe import Forest, Knn, Logistic, Svm
from opsin.classical.fit import Fitted, Pooling, least_of
from opsin.classical.heads import LEAST, REST, SOFT, KernelRidge, Projection
from opsin.core.arrays import Bools, Doubles, Floats, Pixels
from opsin.core.metadata import Layer, LayerOp, Metadata
from opsin.onnx_files import classical_heads, postprocessing
from opsin.runtime.classifier import Classifier


class Written:
    """The graph of a fitted model, or of a head alone, and the table of its layers."""

    def __init__(self, fitted: Fitted, *, whole: bool = True) -> None:
        self._to = postprocessing.GraphWriter()
        self._opset = postprocessing.OPSET
        self._fitted, self._whole = fitted, whole
        self.layers: list[Layer] = []
        if isinstance(fitted.numbers, Pooling):
            self._pixels(fitted.numbers)
            self._embedding = "flatten"
        elif isinstance(fitted.numbers, BackboneFeatures):
            self._backbone(fitted.numbers)
        self._units = fitted.numbers.features
        if isinstance(fitted.projection, Projection):
            self._projected(fitted.projection)
        elif fitted.projection is not None:
            self._components(fitted.projection)
        if isinstance(fitted.estimator, KernelRidge):
            self._kernel_ridge(fitted.estimator)
            return
        match fitted.recipe:
            case Logistic():
                self._logistic()
            case Forest():
                self._forest()
            case Knn():
                self._neighbours()
            case Svm():
                self._machine()

    def content(self, metadata: Metadata) -> bytes:
        """The bytes of the file."""
        return postprocessing.write_file(
            self._to.nodes,
            self._to.weights,
            metadata,
            embedding=self._embedding,
            units=self._units,
            opset=self._opset,
            features=None if self._whole else self._fitted.numbers.features,
        )

    def _layer(
        self, name: str, kind: str, shape: tuple[int, ...], parameters: int = 0, work: int = 0
    ) -> None:
        sizes = {"parameters": parameters, "trainable": parameters, "multiply_adds": work}
        self.layers.append(Layer(name=name, kind=kind, shape=shape, **sizes))

    def _output(self, name: str, kind: str, parameters: int = 0, work: int = 0) -> None:
        self._layer(name, kind, (self._fitted.classes,), parameters, work)

    def _backbone(self, features: BackboneFeatures) -> None:
        graph, to = features.graph, self._to
        self._opset = features.backbone.graph.model.opset_import[0].version
        self._embedding = postprocessing.FEATURES
        if not self._whole:
            return
        to.nodes.extend(graph.to.nodes)
        to.weights.extend(graph.to.weights)
        self.layers += features.layers()
        to.node("Mean", graph.outputs, self._embedding)
        self._layer(postprocessing.FEATURES, f"{LayerOp.MEAN} of views", (graph.units,))

    def _rooted(self, blocks: Sequence[int]) -> str:
        # As `opsin.classical.heads.rooted`.
        to, count = self._to, len(blocks)
        size = to.node("Abs", [self._embedding], "features.size")
        more = to.node("Add", [size, to.weight("features.soft", SOFT, np.float32)], "features.more")
        root = to.node("Sqrt", [more], "features.root")
        roots = to.node("Div", [self._embedding, root], "features.roots")
        squares = to.node("Mul", [roots, roots], "features.squares")
        member = np.repeat(np.eye(count, dtype=np.float32), blocks, axis=0)
        held = to.weight("features.blocks", count * member, np.float32)
        sums = to.node("MatMul", [squares, held], "features.sums")
        least = to.weight("features.least", count * LEAST, np.float32)
        more = to.node("Add", [sums, least], "features.some")
        lengths = to.node("Sqrt", [more], "features.lengths")
        held = to.weight("features.spread", member.T, np.float32)
        scales = to.node("MatMul", [lengths, held], "features.scales")
        return to.node("Div", [roots, scales], "features.rooted")

    def _projected(self, projection: Projection) -> None:
        # As `Projection.of_roots`.
        to, weight = self._to, projection.weight
        held = to.weight("pca.weight", weight.T, np.float32)
        points = to.node("MatMul", [self._rooted(projection.blocks), held], "pca.points")
        axis = to.weight("pca.axis", [1], np.int64)
        squares = to.node("ReduceSumSquare", [points, axis], "pca.squares", keepdims=1)
        rest = to.node("Sub", [to.weight("pca.one", 1.0, np.float32), squares], "pca.left")
        rest = to.node("Max", [rest, to.weight("pca.least", REST, np.float32)], "pca.rest")
        inputs = [points, to.node("Sqrt", [rest], "pca.length")]
        self._embedding = to.node("Concat", inputs, "pca", axis=1)
        self._units = len(weight) + 1
        self._layer("pca", LayerOp.PCA, (self._units,), weight.size, weight.size)

    def _pixels(self, pooling: Pooling) -> None:
        # As `Pooling.rows_of`, to the same bits.
        to = self._to
        value = to.node("Cast", ["images"], "input.float", to=TensorProto.FLOAT)
        factor = pooling.factor
        if factor > 1:
            below, right = pooling.padding
            _, height, width = pooling.shape
            pads = to.weight("input.pads", [0, 0, 0, 0, 0, below, right, 0], np.int64)
            value = to.node("Pad", [value, pads], "input.whole")
            shape = [0, height, factor, width, factor, pooling.channels]
            into = to.weight("input.shape", shape, np.int64)
            value = to.node("Reshape", [value, into], "input.squares")
            axes = to.weight("input.axes", [2, 4], np.int64)
            value = to.node("ReduceSum", [value, axes], "input.sums", keepdims=0)
        divisors = to.weight("input.divisors", pooling.divisors, np.float32)
        value = to.node("Div", [value, divisors], "input.scaled")
        to.node("Transpose", [value], "input", perm=[0, 3, 1, 2])
        kind = f"{LayerOp.MEAN} {factor}×{factor}, scale" if factor > 1 else LayerOp.SCALE
        self._layer("input", kind, pooling.shape)
        to.node("Flatten", ["input"], "flatten", axis=1)
        self._layer("flatten", LayerOp.FLATTEN, (pooling.features,))

    def _components(self, pca: Any) -> None:
        weight = pca.components_
        bias = -(pca.mean_.astype(np.float64) @ weight.T.astype(np.float64))
        self._embedding, self._units = self._dense("pca", weight, bias), len(weight)
        self._layer("pca", LayerOp.PCA, (len(weight),), weight.size + bias.size, weight.size)

    def _dense(self, name: str, weight: Doubles, bias: Doubles) -> str:
        parts = {"weight": weight, "bias": bias}
        held = [self._to.weight(f"{name}.{part}", of, np.float32) for part, of in parts.items()]
        return self._to.node("Gemm", [self._embedding, *held], name, transB=1)

    # From the embedding to logits, ``head: float32[N, K]``

    def _logistic(self) -> None:
        weight, bias = self._fitted.estimator.coef_, self._fitted.estimator.intercept_
        if len(weight) == 1:  # one row for two classes; halved, so that each has a gradient
            weight, bias = (np.concatenate([-part, part]) / 2 for part in (weight, bias))
        self._dense("head", weight, bias)
        self._output("head", "Dense", weight.size + bias.size, weight.size)

    def _neighbours(self) -> None:
        fitted = self._fitted
        points = fitted.estimator._fit_X  # scikit-learn shows them nowhere else
        count = fitted.estimator.n_neighbors
        classical_heads.write_neighbours(
            self._to, self._embedding, points, fitted.labels, count=count, classes=fitted.classes
        )
        kind = f"{count} neighbours of {len(points):,}"
        self._output("votes", kind, points.size + len(points), points.size)
        self._logarithm()

    def _machine(self) -> None:
        machine = self._fitted.estimator
        points = machine.support_vectors_.astype(np.float32)
        kernel = classical_heads.gaussian_kernel(self._to, self._embedding, points, machine.gamma)
        vectors = classical_heads.SupportVectors(
            machine.dual_coef_, machine.intercept_, machine.n_support_, self._fitted.classes
        )
        classical_heads.write_scores(self._to, vectors, kernel)
        held = points.size + machine.dual_coef_.size
        self._output("head", f"{len(points):,} support vectors", held, held)

    def _kernel_ridge(self, machine: KernelRidge) -> None:
        to = self._to
        kernel = classical_heads.gaussian_kernel(to, self._embedding, machine.points, machine.gamma)
        weight = to.weight("head.coefficients", machine.coefficients, np.float64)
        total = to.node("MatMul", [kernel, weight], "head.sums")
        bias = to.weight("head.bias", machine.bias, np.float64)
        shifted = to.node("Add", [total, bias], "head.decisions")
        to.node("Cast", [shifted], "head", to=TensorProto.FLOAT)
        held = machine.points.size + machine.coefficients.size + machine.bias.size
        self._output("head", f"Kernel of {len(machine.points):,} training images", held, held)

    def _forest(self) -> None:
        forest, trees = self._fitted.estimator.estimators_, []
        for tree in (one.tree_ for one in forest):
            left, right = tree.children_left, tree.children_right
            shares = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True)
            values = np.where((left < 0)[:, None], shares / len(forest), 0)
            nodes = tree.feature, tree.threshold, left, right, left < 0, values
            trees.append(classical_heads.TreeNodes(*nodes))
        held = classical_heads.write_trees(self._to, self._embedding, trees, self._fitted.classes)
        self._output("votes", f"{len(forest):,} trees", held)
        self._logarithm()

    def _logarithm(self) -> None:
        # The logits of shares that add up to 1.
        least = self._to.weight("head.least", least_of(self._fitted.classes), np.float32)
        self._to.node("Log", [self._to.node("Max", ["votes", least], "head.some")], "head")
        self._output("head", "Logarithm")


def check_parity(
    file: Classifier, fitted: Fitted, images: Pixels, expected: Floats | None = None
) -> float:
    """Compare a calibrated file with scikit-learn, or with what this was given (``expected``)."""
    outputs = file.layers(images, ["probabilities", "embedding"])
    answers, embedding = outputs["probabilities"], outputs["embedding"]
    expected = fitted.embedding(images) if expected is None else expected
    shares = isinstance(fitted.recipe, Forest | Knn)
    least = least_of(fitted.classes) if shares else np.finfo(np.float64).tiny
    logits = np.log(np.maximum(fitted.probabilities(embedding), least))
    return postprocessing.check_answers(
        answers,
        postprocessing.answers_of(file.metadata, logits),
        file.metadata,
        of="scikit-learn",
        settled=_settled(fitted, embedding),
        apart=float(np.abs(embedding - expected).max()),
    )


def _settled(fitted: Fitted, embedding: Floats) -> Bools:
    """The images with one answer: the order of neighbours at one distance is undefined."""
    count = fitted.estimator.n_neighbors if isinstance(fitted.recipe, Knn) else 0
    if not count or count >= len(fitted.labels):
        return np.ones(len(embedding), bool)
    distances, _ = fitted.estimator.kneighbors(embedding, n_neighbors=count + 1)
    last, next_one = distances[:, -2], distances[:, -1]
    settled: Bools = next_one - last > 1e-9 * next_one
    return settled
