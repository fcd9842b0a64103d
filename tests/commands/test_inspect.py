"""What `inspect` refuses before it works, and the pages it writes to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import opsin
from opsin.commands.inspect_model import Inspection
from opsin.core.errors import ModelFileError
from opsin.data.dataset import Dataset


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
