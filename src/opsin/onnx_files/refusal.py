"""The error of a stranger's file that cannot be used."""

from __future__ import annotations

from opsin.core.errors import ModelFileError
from opsin.runtime.onnx_scan import printable


def refused(name: str, reason: str, advice: str = "") -> ModelFileError:
    """The error of a file that cannot be used; by default it advises another one."""
    advice = advice or "Give another file; where its own program can, export it to ONNX."
    return ModelFileError(f"{name} cannot be used: {reason}", advice)


def quoted(text: object) -> str:
    """Text out of a stranger's file, fit for a line of a message."""
    return printable(str(text)[:200])
