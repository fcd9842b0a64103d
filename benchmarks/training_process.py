"""A training as its user starts it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def train(
    source: str | Path, *words: object, runs: str | Path, cache: Path | None = None
) -> dict[str, Any]:
    """Return the report of `opsin train`, below ``runs``, with a cache of its own if one is named.

    Raises:
        SystemExit: It failed; with what it said.
    """
    command = [sys.executable, "-m", "opsin", "train", source, *words, "--runs", runs]
    environment = os.environ | ({"OPSIN_CACHE": str(cache)} if cache else {})
    done = subprocess.run(
        [*map(str, command), "--quiet", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return report
