"""What an inspection refuses, and what it is called with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from opsin.commands.inspect_model import Inspection
from opsin.core.errors import ModelFileError
from opsin.runtime.model_check import write_classifier


def test_a_network_that_ran_away_is_refused_in_a_line(nearest_mean: Path, tmp_path: Path) -> None:
    model = onnx.load_model(nearest_mean)
    (weight,) = (each for each in model.graph.initializer if each.name == "weight")
    value = numpy_helper.to_array(weight).copy()
    value[3, 5] = np.nan
    weight.CopyFrom(numpy_helper.from_array(value, "weight"))
    file = tmp_path / "classifier.onnx"
    onnx.save_model(model, file)
    with pytest.raises(ModelFileError, match=r"not all between 0 and 1.* Its training diverged"):
        Inspection(file)
    # One that this account trained is opened, to be looked into.
    write_classifier(file, model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"weight in .* no finite numbers"):
        Inspection(file).weights()
