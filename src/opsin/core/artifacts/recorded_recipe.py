"""The part of ``recipe.json`` that all models share; no answer loads it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from opsin.core.artifacts.records import Artifact, Stored, Text
from opsin.core.metadata import Count
from opsin.core.recipe import DataRecipe


class RecordedModel(Stored):
    """The model; its options depend on its name."""

    name: Text


class RecordedTraining(Stored):
    """How it was trained; the options depend on the model."""

    epochs: Count | None = Field(None, description="Epochs that were asked for.")


class RecordedRecipe(Artifact):
    """A recipe of which only the images and the model's name are known."""

    FILE: ClassVar[str] = "recipe.json"

    data: DataRecipe
    model: RecordedModel
    training: RecordedTraining = Field(default_factory=RecordedTraining)
