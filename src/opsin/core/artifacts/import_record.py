"""Where an imported classifier is from, and what it was compared with: ``import.json``."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from opsin.core.artifacts.artifact import Artifact, Count, Stored, Text

#: The model's name in the recipe of an imported classifier.
IMPORTED: Final = "imported"


class ImportParity(Stored):
    """How close the file's answers are to those that its maker's program gave."""

    file: Text = Field(description="Array file with the images and the maker's answers.")
    images: Count
    difference: float = Field(description="Largest difference of probabilities.")
    labels: Count = Field(0, description="Images with another label.")


class ImportRecord(Artifact):
    """Where an imported classifier is from, what was found out, and what it was compared with."""

    FILE: ClassVar[str] = "import.json"

    file: Text = Field(description="Name of the file that it was read from.")
    sha256: Text = Field(description="Of that file, in hexadecimal.")
    maker: Text = Field(description="Program that saved it, with its version.")
    network: Text = Field("", description="What its maker calls the network.")
    pixels: Text = Field(description="What it takes for pixels, and where that is stated.")
    answers: Text = Field(description="What it answers with, and how that became probabilities.")
    classes_from: Text = Field(description="Where the names of the classes are stated.")
    licence: Text = Field(description="Under which it is published, or unknown.")
    parity: ImportParity | None = Field(
        None, description="Comparison with the maker's answers; null where none were given."
    )
