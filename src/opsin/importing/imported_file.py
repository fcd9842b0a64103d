"""A classifier from elsewhere becomes a classifier.onnx: the same answers, for prepared images."""

from __future__ import annotations

from collections.abc import Sequence

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import FeatureGraph, layer_table
from opsin.backbones.pixel_values import PixelValues
from opsin.core.metadata import Layer, Metadata
from opsin.importing.answers import ANSWERS
from opsin.importing.foreign_network import ForeignNetwork
from opsin.onnx_files.postprocessing import LOGITS, write_file


class ImportedFile:
    """The graph of a network from elsewhere, and the table of its layers."""

    def __init__(self, network: ForeignNetwork, pixels: PixelValues, licence: str) -> None:
        probed = network.probed
        self._backbone = Backbone(
            network.path.stem,
            network.path,
            network.digest,
            network.content,
            probed,
            pixels,
            (ANSWERS,),
            licence,
        )
        shape = (*probed.side, probed.channels)
        graph = FeatureGraph(self._backbone, shape, ("whole",), (ANSWERS,))
        graph.to.node("Identity", graph.outputs, LOGITS)
        self._embedding = graph.pooled(probed.features, probed.features)
        self._units = self._backbone.value(probed.features).units
        self._graph = graph
        made = {name for node in graph.nodes for name in node.output}
        # The probe renames what is called as ours are.
        named = {name.removeprefix("backbone."): name for name in made}
        #: Its layers by the names in its file.
        self.layers: Sequence[Layer] = (
            [
                row.model_copy(update={"name": named[row.name]})
                for row in network.layers
                if row.name in named
            ]
            if network.layers
            else self._operators()
        )

    def _operators(self) -> Sequence[Layer]:
        shapes = {value.name: value.shape for value in self._backbone.probed.values}
        del shapes[ANSWERS]
        rows = layer_table(self._graph.nodes, self._backbone.graph.weights, shapes)
        # All of it was trained by its maker.
        return [row.model_copy(update={"trainable": row.parameters}) for row in rows]

    def content(self, metadata: Metadata) -> bytes:
        """Return the file's bytes, as `write_file` makes them."""
        return write_file(
            self._graph.to.nodes,
            self._graph.to.weights,
            metadata,
            embedding=self._embedding,
            units=self._units,
            opset=self._backbone.graph.model.opset_import[0].version,
        )
