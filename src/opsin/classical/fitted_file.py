"""A fitted model becomes classifier.onnx, checked against scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from opsin.classical.backbone_features import BackboneFeatures
from opsin.classical.classical_recipe import Forest, Knn
from opsin.classical.fit import Fitted, least_of
from opsin.classical.pixels import Pooling
from opsin.classical.projection import LEAST, REST, SOFT, Projection
from opsin.classical.sklearn_to_onnx import write_head
from opsin.core.metadata import Layer, LayerOp, Metadata
from opsin.onnx_files.graph_writer import GraphWriter
from opsin.onnx_files.parity import answers_of, check_answers
from opsin.onnx_files.postprocessing import FEATURES, OPSET, write_file
from opsin.runtime.classifier import Classifier


class Written:
    """The graph of a fitted model, and the table of its layers.

    Args:
        fitted: The model.
    """

    def __init__(self, fitted: Fitted) -> None:
        self._to = GraphWriter()
        self._opset = OPSET
        self._classes = fitted.classes
        self.layers: list[Layer] = []
        if isinstance(fitted.numbers, Pooling):
            self._pixels(fitted.numbers)
            self._embedding = "flatten"
        else:
            self._backbone(fitted.numbers)
        self._units = fitted.numbers.features
        if isinstance(fitted.projection, Projection):
            self._projected(fitted.projection)
        elif fitted.projection is not None:
            weight = fitted.projection.components_
            bias = -(fitted.projection.mean_.astype(np.float64) @ weight.T.astype(np.float64))
            self._linear(self._embedding, weight, bias)
        for row in write_head(self._to, fitted, self._embedding):
            self._layer(row.name, row.kind, (fitted.classes,), row.parameters, row.multiply_adds)

    def _layer(
        self, name: str, kind: str, shape: tuple[int, ...], parameters: int = 0, work: int = 0
    ) -> None:
        self.layers.append(
            Layer(
                name=name,
                kind=kind,
                shape=shape,
                parameters=parameters,
                trainable=parameters,
                multiply_adds=work,
            )
        )

    def _backbone(self, features: BackboneFeatures) -> None:
        """Write the network as far as its features, and their mean over views."""
        graph, to = features.graph, self._to
        self._opset = features.backbone.graph.model.opset_import[0].version
        to.nodes.extend(graph.to.nodes)
        to.weights.extend(graph.to.weights)
        self.layers += features.layers()
        self._embedding = to.node("Mean", graph.outputs, FEATURES)
        self._layer(FEATURES, f"{LayerOp.MEAN} of views", (graph.units,))

    def _rooted(self, blocks: Sequence[int]) -> str:
        """Write what `opsin.classical.projection.rooted` does."""
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
        """Write what `Projection.of_roots` does."""
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
        """Write what `Pooling.rows_of` does, to the same bits."""
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

    def _linear(self, source: str, weight: NDArray[Any], bias: NDArray[Any]) -> None:
        """Write the map to the principal components."""
        to = self._to
        inputs = [source, to.weight("pca.weight", weight, np.float32),
                  to.weight("pca.bias", bias, np.float32)]  # fmt: skip
        self._embedding = to.node("Gemm", inputs, "pca", transB=1)
        self._units = len(weight)
        self._layer("pca", LayerOp.PCA, (len(weight),), weight.size + bias.size, weight.size)

    def content(self, metadata: Metadata) -> bytes:
        """Return the file's bytes."""
        return write_file(
            self._to.nodes,
            self._to.weights,
            metadata,
            embedding=self._embedding,
            units=self._units,
            opset=self._opset,
        )


def check_parity(file: Classifier, fitted: Fitted, images: NDArray[np.uint8]) -> float:
    """Compare a calibrated file's answers with scikit-learn's."""
    found = file.layers(images, ["probabilities", "embedding"])
    answers, embedding = found["probabilities"], found["embedding"]
    return check_answers(
        answers,
        _answers(fitted, fitted.probabilities(embedding), file.metadata),
        file.metadata,
        of="scikit-learn",
        settled=_settled(fitted, embedding),
        apart=float(np.abs(embedding - fitted.embedding(images)).max()),
    )


def _answers(
    fitted: Fitted, probabilities: NDArray[np.float64], metadata: Metadata
) -> NDArray[np.float64]:
    """Return scikit-learn's answers as they are with the file's temperature and mix of classes."""
    shares = isinstance(fitted.recipe, Forest | Knn)
    least = least_of(fitted.classes) if shares else np.finfo(np.float64).tiny
    return answers_of(metadata, np.log(np.maximum(probabilities, least)))


def _settled(fitted: Fitted, embedding: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell for which images there is one answer: neighbours at one distance are in no order."""
    count = fitted.estimator.n_neighbors if isinstance(fitted.recipe, Knn) else 0
    if not count or count >= len(fitted.labels):
        return np.ones(len(embedding), bool)
    distances, _ = fitted.estimator.kneighbors(embedding, n_neighbors=count + 1)
    last, next_one = distances[:, -2], distances[:, -1]
    settled: NDArray[np.bool_] = next_one - last > 1e-9 * next_one
    return settled
