"""A pretrained network in the form that its weights can be trained in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from opsin.backbones.backbone import Backbone
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.providers import cpu_session

_HALF = TensorProto.FLOAT16


def trainable(backbone: Backbone) -> Backbone:
    """Return a network with numbers of 32 bits, weights of bytes or halves among them."""
    model = onnx.ModelProto()
    model.CopyFrom(backbone.graph.model)
    _unpack(model)
    for weight in model.graph.initializer:
        if weight.data_type == _HALF:
            wide = numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(wide, weight.name))
    for node in model.graph.node:
        for given in node.attribute:
            if node.op_type == "Cast" and given.name == "to" and given.i == _HALF:
                given.i = TensorProto.FLOAT
    for each in (*model.graph.input, *model.graph.output):
        if each.type.tensor_type.elem_type == _HALF:
            each.type.tensor_type.elem_type = TensorProto.FLOAT
    del model.graph.value_info[:]
    probed = backbone.probed
    if probed.dtype == "float16":
        probed = probed.model_copy(update={"dtype": "float32"})
    return replace(backbone, content=model.SerializeToString(), probed=probed)


def _unpack(model: onnx.ModelProto) -> None:
    """Make weights of what is computed from weights alone, such as unpacked bytes."""
    held = {weight.name for weight in model.graph.initializer}
    made: list[onnx.NodeProto] = []
    for node in model.graph.node:
        taken = {name for name in node.input if name}
        if taken and taken <= held:
            made.append(node)
            held.update(node.output)
    if not made:
        return
    gone = {name for node in made for name in node.output}
    kept = [node for node in model.graph.node if not gone.intersection(node.output)]
    names = sorted(gone.intersection(name for node in kept for name in node.input))
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = helper.make_graph(made, "weights", [], outputs, model.graph.initializer)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = cpu_session(OnnxGraph(part.SerializeToString(), layers=()).up_to(names))
    values = session.run(names, {})
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    weights = [weight for weight in model.graph.initializer if weight.name in used]
    weights += [
        numpy_helper.from_array(value, name) for name, value in zip(names, values, strict=True)
    ]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
