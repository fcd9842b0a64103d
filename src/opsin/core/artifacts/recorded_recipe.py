"""What every run's ``recipe.json`` says, whatever its model is."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from opsin.core.artifacts.artifact import Artifact, Count, Stored, Text
from opsin.core.recipe import DataRecipe


def _with_earlier_meaning(data: object) -> object:
    """Say what a recipe meant where it lacks an option."""
    return {"outside": True, **data} if isinstance(data, dict) else data


class RecordedModel(Stored):
    """The model; its options depend on its name."""

    name: Text


class RecordedTraining(Stored):
    """How it was trained; the options depend on the model."""

    epochs: Count | None = Field(None, description="Epochs that were asked for.")


class RecordedRecipe(Artifact):
    """A recipe of which only the images and the model's name are known."""

    FILE: ClassVar[str] = "recipe.json"

    data: Annotated[DataRecipe, BeforeValidator(_with_earlier_meaning)]
    model: RecordedModel
    training: RecordedTraining = RecordedTraining()
