"""A classifier from elsewhere becomes a classifier.onnx: the same answers, for prepared images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from opsin.backbones.backbone import Backbone
from opsin.backbones.feature_graph import FeatureGraph, layer_table
from opsin.backbones.pixel_values import PixelValues
from opsin.core.metadata import Layer, Metadata
from opsin.importing.answers import ANSWERS
from opsin.importing.foreign_network import ForeignNetwork
from opsin.onnx_files.postprocessing import LOGITS, write_file


def imported_file(
    network: ForeignNetwork, pixels: PixelValues, licence: str
) -> tuple[Sequence[Layer], Callable[[Metadata], bytes]]:
    """Return the layers of the file that a network becomes, and what writes it."""
    path, probed = network.path, network.probed
    backbone = Backbone(
        path.stem, path, network.digest, network.content, probed, pixels, (ANSWERS,), licence
    )
    graph = FeatureGraph(backbone, (*probed.side, probed.channels), ("whole",), (ANSWERS,))
    graph.to.node("Identity", graph.outputs, LOGITS)
    write = functools.partial(
        write_file,
        graph.to.nodes,
        graph.to.weights,
        embedding=graph.pooled(probed.features, probed.features),
        units=backbone.value(probed.features).units,
        opset=backbone.graph.model.opset_import[0].version,
    )
    if network.layers:
        made = [name for node in graph.nodes for name in node.output]
        # The probe renames what is called as ours are.
        named = {name.removeprefix("backbone."): name for name in made}
        rows = [row for row in network.layers if row.name in named]
        return [row.model_copy(update={"name": named[row.name]}) for row in rows], write
    shapes = {value.name: value.shape for value in probed.values if value.name != ANSWERS}
    rows = layer_table(graph.nodes, backbone.graph.weights, shapes)
    # All of it was trained by its maker.
    return [row.model_copy(update={"trainable": row.parameters}) for row in rows], write
