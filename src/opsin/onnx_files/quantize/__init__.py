"""A classifier in fewer bits."""

from __future__ import annotations

from opsin.core.errors import MissingExtraError

try:
    import onnx  # noqa: F401  each module of the package needs it
except ModuleNotFoundError as error:
    raise MissingExtraError("exporting", "evaluate") from error
