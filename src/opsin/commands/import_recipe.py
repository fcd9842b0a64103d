"""The recipe of an import: ``recipe.json`` of its run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from opsin.classical.classical_recipe import ClassicalRecipe, Fitting
from opsin.core.recipe import DataRecipe, Recipe, RecipeModel


class ImportedModel(RecipeModel):
    """A classifier from elsewhere."""

    name: Literal["imported"] = "imported"
    file: str = Field(description="The file that it was read from.")
    prepare: str | None = Field(None, description="The pixels that it was trained on, as given.")
    output: str | None = Field(None, description="Which of its outputs answers, as given.")
    architecture: str | None = Field(None, description="What weights alone are of, as given.")
    graph: str | None = Field(None, description="The graph that weights alone were put into.")


class ImportRecipe(RecipeModel):
    """The recipe of an import."""

    data: DataRecipe = Field(
        description="The images that it was measured on; without any, the file itself."
    )
    model: ImportedModel
    training: Fitting = Fitting()
    parent: None = Field(None, description="None: it was trained elsewhere.")
    reasons: dict[str, str] = Field(
        default_factory=dict, description="What was found out about the file."
    )
    versions: dict[str, str] = Field(
        default_factory=dict, description="The packages that the run was made with."
    )


#: What a run's ``recipe.json`` may hold.
AnyRecipe = Recipe | ClassicalRecipe | ImportRecipe
