"""An ONNX file taken apart with the ONNX library."""

from __future__ import annotations

from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from opsin.runtime.onnx_scan import printable, unreadable


def parse(content: bytes) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
    """Return the model that a file's bytes say, and its weights by their names.

    ONNX Runtime passes over weights that nothing uses; they may be of any kind, and broken.

    Raises:
        ModelFileError: It is none, or one of its weights is no array.
    """
    name = ""
    weights = {}
    try:
        model: onnx.ModelProto = onnx.load_model_from_string(content)
        for weight in model.graph.initializer:
            name = weight.name
            if weight.data_location == onnx.TensorProto.EXTERNAL:
                raise ValueError("it lies outside the file")
            weights[name] = numpy_helper.to_array(weight)
    except Exception as error:
        reason = f"weight {printable(name)}: {printable(error)}" if name else printable(error)
        raise unreadable("the file", reason) from error
    return model, weights
