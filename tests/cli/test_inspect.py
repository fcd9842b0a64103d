"""What a file says of itself is shown as it is written, and moves no cursor."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console

import opsin
from opsin.cli.inspect import show_insight
from opsin.inspection.layers import view_of
from opsin.inspection.units import unit_gallery
from tests.inspection.made_network import made
from tests.made_classifier import made_layer


def shown(found: opsin.Insight) -> str:
    stream = io.StringIO()
    show_insight(Console(file=stream, width=200), found)
    return stream.getvalue()


def test_kinds_and_names_of_layers_are_no_markup(tmp_path: Path) -> None:
    layer = made_layer("[/b]", "[/i]", (2,))
    found = opsin.Insight(
        tmp_path,
        answer=opsin.Prediction("boot.png", "a", 1.0, {"a": 1.0}),
        views=[view_of(layer, np.array([1, 2], np.float32))],
    )
    assert "[/b]" in shown(found) and "[/i]" in shown(found)
    gallery = unit_gallery(*made(tmp_path), "dense")
    assert "Unit of [/b]" in shown(opsin.Insight(tmp_path, galleries={"[/b]": gallery}))
