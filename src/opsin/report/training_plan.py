"""What a training would be, as terminal, studio and ``--json`` show it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from opsin.classical.classical_recipe import ClassicalRecipe
from opsin.core.metadata import Layer
from opsin.core.recipe import Recipe
from opsin.core.stored_json import JsonObject


class Plan(BaseModel):
    """A training that is not begun: what it would do, how long it takes and how much it needs."""

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

    @property
    def parameters(self) -> int | None:
        """How many numbers the network holds; ``None`` for a model without layers."""
        return sum(layer.parameters for layer in self.layers) if self.layers else None

    @property
    def multiply_adds(self) -> int | None:
        """What the network computes for an image; ``None`` for a model without layers."""
        return sum(layer.multiply_adds for layer in self.layers) if self.layers else None

    def to_json(self) -> JsonObject:
        """Return the plan as plain data."""
        sums = {"parameters": self.parameters, "multiply_adds": self.multiply_adds}
        return self.model_dump(mode="json") | {"reasons": self.recipe.reasons} | sums
