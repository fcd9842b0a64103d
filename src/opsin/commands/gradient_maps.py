"""The heat maps that need gradients, and so PyTorch and Captum."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError, ModelFileError
from opsin.inspection.decision import MethodHeat
from opsin.onnx_files.onnx_graph import OnnxGraph

if TYPE_CHECKING:
    from opsin.models.onnx_network import TorchNetwork


def gradient_maps(
    network: OnnxGraph,
    random_file: bytes | None,
    pixels: NDArray[np.uint8],
    target: int,
    fill: NDArray[np.uint8],
) -> tuple[dict[str, MethodHeat], list[str]]:
    """Draw saliency, Grad-CAM and Integrated Gradients, as `opsin.inspection.decision` asks for."""
    try:
        from opsin.models import attribution  # noqa: PLC0415  needs PyTorch
        from opsin.models.onnx_network import TorchNetwork  # noqa: PLC0415

        trained = TorchNetwork(network.with_weights({}))
        random = None if random_file is None else TorchNetwork(random_file)

        def both(method: Callable[[TorchNetwork], NDArray[np.float32]]) -> MethodHeat:
            return MethodHeat(method(trained), None if random is None else method(random))

        found = {"saliency": both(lambda net: attribution.saliency(net, pixels, target))}
    except MissingExtraError as error:
        names = "Saliency, Grad-CAM and Integrated Gradients need PyTorch and Captum"
        return {}, [f"{names}. {error.advice}"]
    except ModelFileError as error:
        names = "Saliency, Grad-CAM and Integrated Gradients need gradients"
        return {}, [f"{names}: {error.received}. Occlusion needs none."]
    notes = []
    # The last hidden layer whose units have more than one place.
    maps = [
        layer.name
        for layer in network.layers
        if layer.name != "input" and len(layer.shape) == 3 and layer.shape[1] * layer.shape[2] > 1
    ]
    if maps:
        found["grad-cam"] = both(lambda n: attribution.grad_cam(n, pixels, target, layer=maps[-1]))
    else:
        notes.append("Grad-CAM needs a layer with maps, and this network has none.")
    whole = attribution.integrated_gradients(trained, pixels, target, baseline=fill)
    other = random and attribution.integrated_gradients(random, pixels, target, baseline=fill)
    words = f"Adds up to the change of the class's score, but for {whole.gap:.1%}."
    if whole.gap > attribution.GAP:
        words += " That is much: take it with caution."
    found["integrated-gradients"] = MethodHeat(whole.heat, other.heat if other else None, (words,))
    return found, notes
