"""The error of a file that cannot be brought in."""

from __future__ import annotations

from opsin.core.errors import ModelFileError
from opsin.runtime.onnx_scan import printable


def refused(name: str, reason: str, advice: str = "") -> ModelFileError:
    """Return the error of a file that cannot be brought in."""
    return ModelFileError(
        "a classifier of images that another program saved",
        f"{name} cannot be brought in: {reason}",
        advice or "Give another file; where its own program can, export it to ONNX.",
    )


def quoted(text: object) -> str:
    """Return text out of a stranger's file, fit for a line of a message."""
    return printable(str(text)[:200])
