"""The name and the note that people gave a run: ``notes.json``."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field, ValidationInfo, field_validator

from opsin.core.artifacts.artifact import Artifact

#: Characters of a run's name and of its note, at most.
NAME_MOST: Final = 200
NOTE_MOST: Final = 10_000


class RunNotes(Artifact):
    """The name and the note that people gave a run; empty where they gave none."""

    FILE: ClassVar[str] = "notes.json"

    name: str = Field("", description=f"Name of the run, at most {NAME_MOST} characters.")
    note: str = Field("", description=f"Note about the run, at most {NOTE_MOST:,} characters.")

    @field_validator("name", "note", mode="before")
    @classmethod
    def _shorten(cls, text: object, info: ValidationInfo) -> object:
        """Cut what another program wrote to the length that pages have room for."""
        most = NAME_MOST if info.field_name == "name" else NOTE_MOST
        return text[:most] if isinstance(text, str) else text or ""
