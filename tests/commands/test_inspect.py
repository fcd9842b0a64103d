"""What an inspection refuses, and the pages it writes to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import opsin
from opsin.commands.inspect_model import Inspection
from opsin.core.errors import ModelFileError
from opsin.data.dataset import Dataset
from opsin.runtime.model_check import write_classifier


def test_all_layers_are_known_before_the_first_is_looked_at(
    nearest_mean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Inspection, "units", never)
    with pytest.raises(ModelFileError, match="no layer 'conv9' among"):
        opsin.inspect(nearest_mean, layers=["flatten", "conv9"], data="digits")


def test_an_image_does_not_take_the_page_of_the_network(
    nearest_mean: Path, tmp_path: Path, digits: Dataset
) -> None:
    file = tmp_path / "network.png"
    Image.fromarray(np.asarray(digits.images[0])[:, :, 0]).save(file)
    found = opsin.inspect(nearest_mean, file, out=tmp_path)
    assert found.page == tmp_path / "image-network.html"


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
