"""What keeps a pretrained network that was chosen from being built on."""

from __future__ import annotations

from typing import Any, cast

import pytest

pytest.importorskip("nicegui")

from opsin.studio.parts.network_choice import fault_of


@pytest.mark.parametrize("pixels", ["", "0..255"])
def test_a_classifier_of_ones_own_knows_its_pixels(pixels: str) -> None:
    nothing = cast("Any", None)  # a run's pixels are asked of nobody
    assert fault_of(nothing, "run:1", pixels) == ""
    assert "As its files say" in fault_of(nothing, "run:1", "imagenet")
    assert fault_of(nothing, "", "imagenet") == "Choose a pretrained network, or bring one."
