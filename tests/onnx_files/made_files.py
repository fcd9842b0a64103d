"""Files of networks with weights by chance, whose BatchNorm is not the trivial one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import opsin
from opsin.core.metadata import Metadata, Preparation
from opsin.core.recipe import DataRecipe
from opsin.models.resolve import resolve
from tests.made_classifier import metadata

SHAPE = (28, 24, 3)


def model_file(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Any],
    taken: tuple[str, int, Sequence[Any]],
    outputs: Mapping[str, Sequence[Any] | None],
    *,
    kind: int = TensorProto.FLOAT,
    opset: int = 20,
    maker: str = "",
    about: Metadata | None = None,
) -> bytes:
    """A file of operators; `taken`: name, type and shape of its input, `kind`: of its outputs."""
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    first = helper.make_tensor_value_info(*taken)
    graph = helper.make_graph(nodes, "made", [first], ends, held)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, producer_name=maker, opset_imports=opsets, ir_version=9)
    helper.set_model_props(model, about.to_props() if about else {})
    return bytes(model.SerializeToString())


def computed(content: bytes, names: Sequence[str] = (), **values: Any) -> dict[str, Any]:
    """Compute any values of a file by name; where none is named, its outputs."""
    model = onnx.load_model_from_string(content)
    have = [value.name for value in model.graph.output]
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted = list(names) or have
    return dict(zip(wanted, session.run(wanted, values), strict=True))


def trained(name: str, *, low: float = 0.2, **options: Any) -> tuple[Any, Metadata]:
    """Build a network whose BatchNorm is not the trivial one; its factors begin at `low`."""
    import torch
    from torch import nn

    from opsin.models import build_network
    from opsin.models.build_network import Statistics

    torch.manual_seed(0)
    recipe = resolve(DataRecipe.of("x"), model=name, **options).model
    network = build_network.build(recipe, SHAPE, 4, statistics=Statistics([100.0] * 3, [60.0] * 3))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, low, 1.0)
            nn.init.normal_(module.bias)
    like = Preparation(height=SHAPE[0], width=SHAPE[1], channels=3, resize="fit")
    layers = tuple(build_network.summarise(network, SHAPE))
    about = {"model": name, "preparation": like, "layers": layers}
    return network.eval(), metadata(classes=4).model_copy(update=about)


def made(name: str, *, negative: bool = False, **options: Any) -> bytes:
    """Return a classifier.onnx; ``negative``: some maps are multiplied by less than 0."""
    from opsin.training.torch_to_onnx import to_onnx

    return to_onnx(*trained(name, low=-1.0 if negative else 0.2, **options))


def images(count: int = 48) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    level = random.integers(0, 200, (count, 1, 1, 3))
    return (level + random.integers(0, 56, (count, *SHAPE))).astype(np.uint8)


def opened(content: bytes, folder: Path, name: str = "made.onnx") -> opsin.Classifier:
    path = folder / name
    path.write_bytes(content)
    return opsin.Classifier(path, threads=1)
