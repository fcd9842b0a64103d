"""What trackers call a run: ``trackers.jsonl``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from opsin.core.artifacts.artifact import Stored, Text


class TrackedRun(Stored):
    """What a tracker calls the run, a line of the file; the last line of a tracker counts."""

    FILE: ClassVar[str] = "trackers.jsonl"

    tracker: Text = Field(description="Its name, as `--track` takes it.")
    # It becomes part of addresses and of names of folders, and a stranger may have written it.
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
