"""Where this account keeps what Opsin has begun."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_state_path


def state_root() -> Path:
    """Return where an account's state lies: ``$OPSIN_STATE``, or the system's usual place."""
    own = os.environ.get("OPSIN_STATE")
    return Path(os.path.expanduser(own)) if own else user_state_path("opsin")  # noqa: PTH111  never raises
