"""`--track`, which the verbs that train share."""

from __future__ import annotations

from typing import Annotated, Final

from opsin.cli.options import flag
from opsin.trackers import trackers

_TRACKERS: Final = ", ".join(f"{each.name} ({each.title})" for each in trackers().values())

Track = Annotated[
    str | None,
    flag(
        "--track NAME,NAME",
        f"Show the run in {_TRACKERS} as well; a tracker that fails costs a warning, never "
        "the run. Where to is said by its own environment variables.",
    ),
]
