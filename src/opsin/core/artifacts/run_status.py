"""What a run is doing: ``status.json``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from opsin.core.artifacts.artifact import Artifact, Seconds, Text

State = Literal["running", "done", "stopped", "failed"]
_Amount = Annotated[float, Field(ge=0)]


class RunStatus(Artifact):
    """What a run is doing or how it ended; while it trains, also how far it is."""

    FILE: ClassVar[str] = "status.json"

    state: State
    pid: int = Field(gt=0, lt=1 << 31, description="Process that trains or trained the run.")
    started: Seconds | None = Field(
        None, description="When the training began, in seconds since 1970."
    )
    heartbeat: Seconds = Field(description="When this file was last written.")
    launch: Text | None = Field(
        None, description="By which processes that are started again find their run."
    )
    cause: Text | None = Field(None, description="Why the run failed or stopped.")
    doing: Text | None = Field(None, description="Present work; ``3/10`` is epoch 3 of 10.")
    done: _Amount = Field(0.0, description="Finished units of that work.")
    total: _Amount = Field(0.0, description="All units of that work; 0 if they are not counted.")
    unit: Text = Field("", description="Name of the units, such as ``images``.")
    share: _Amount | None = Field(None, description="Finished part of the training, 0 to 1.")
    left: _Amount | None = Field(None, description="Seconds until the training ends.")
    speed: _Amount | None = Field(None, description="Units a second.")
    figures: dict[Text, float] = Field(
        default_factory=dict, description="Present loss, accuracy and others."
    )
