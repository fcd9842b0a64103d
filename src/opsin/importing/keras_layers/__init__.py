"""Keras' layers as operators: each writes itself into the graph and returns what it puts out."""

from __future__ import annotations

from typing import Final

from opsin.importing.keras_graph import Writer
from opsin.importing.keras_layers import numbers, shapes, weighted

#: The layers by the names of their classes.
LAYERS: Final[dict[str, Writer]] = {**numbers.LAYERS, **shapes.LAYERS, **weighted.LAYERS}
