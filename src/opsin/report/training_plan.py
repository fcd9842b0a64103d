"""The plan of a training for terminal, studio and ``--json``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, computed_field

from opsin.classical.classical_recipe import ClassicalRecipe
from opsin.core.metadata import Layer
from opsin.core.recipe import Recipe


class Plan(BaseModel):
    """The plan of a training: its options, time and memory."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe | ClassicalRecipe  # every option, decided
    summary: str  # the images in one line
    images: dict[str, int]  # how many there are in each part: `train`, `val`, `test`
    layers: tuple[Layer, ...] = ()  # the network
    seconds: float | None = None
    # Bytes that it takes beyond the images; `None` for a model without layers.
    memory: int | None = None
    # The learning rate: pairs of progress, 0 to 1, and rate.
    rates: tuple[tuple[float, float], ...] = ()
    device: str
    notes: tuple[str, ...]  # warnings: what is so, then what to do

    @computed_field
    @property
    def reasons(self) -> dict[str, str]:
        """Why options that were left open have their values."""
        return self.recipe.reasons

    @computed_field
    @property
    def parameters(self) -> int | None:
        """Number of parameters; ``None`` for a model without layers."""
        return sum(layer.parameters for layer in self.layers) if self.layers else None

    @computed_field
    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds of an image; ``None`` for a model without layers."""
        return sum(layer.multiply_adds for layer in self.layers) if self.layers else None
