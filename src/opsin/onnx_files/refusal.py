"""The error for an unusable file."""

from __future__ import annotations

from opsin.core.errors import ModelFileError
from opsin.runtime.onnx_scan import printable


def refused(name: str, reason: str, advice: str = "") -> ModelFileError:
    """The error for an unusable file; by default it advises another one."""
    advice = advice or "Give another file; where its own program can, export it to ONNX."
    return ModelFileError(f"{name} cannot be used: {reason}", advice)


def quoted(text: object) -> str:
    """Text from an untrusted file, made safe for a message."""
    return printable(str(text)[:200])
