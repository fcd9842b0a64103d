"""A REST server that answers with labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.core.platform import known_device
from opsin.web.addresses import AddressSettings, is_loopback

#: Most pixels of an image that workers decode; the settings may allow less.
MAX_PIXELS: Final = 50_000_000

Models = (
    str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]
)


class ServerSettings(AddressSettings):
    """A server's address, access and limits.

    Each field is an option of ``opsin serve``; see its help.

    Raises:
        RecipeError: A value is out of its range, or an address other than this machine's own is
            to be listened on without a token.

    Example:
        >>> ServerSettings(port=9000).loopback
        True
    """

    port: int = Field(8000, ge=0, le=65_535)
    workers: int | None = Field(None, ge=1)
    device: Annotated[str, AfterValidator(known_device)] = "auto"
    queue: int = Field(256, ge=1)
    batch: int = Field(16, ge=1)
    deadline: float = Field(30.0, ge=0.001, le=86_400)
    max_bytes: int = Field(20_000_000, ge=1)
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=MAX_PIXELS)
    page: str | None = None
    access_log: bool = False

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


@checked
def serve(
    models: Models, settings: ServerSettings | None = None, *, watcher: Watcher = SILENT
) -> None:
    """Serve classifiers over HTTP until the process is asked to stop (Ctrl-C, SIGTERM).

    Args:
        models: A run directory, a ``classifier.onnx``, or ``hf:owner/name[@revision]`` on the
            Hugging Face hub; several, each also as ``NAME=MODEL``; or these by name.
        settings: How to listen, whom to answer and what to accept
            (default: `ServerSettings` of ``opsin.server`` as it is: this machine only, port 8000).
        watcher: Receives the models served and the address.

    Raises:
        MissingExtraError: ``opsin[serve]`` is not installed.
        RecipeError: The address is in use, or not this machine's; there is no model, a name stands
            for two of them, or is invalid.
        RunError: A model is missing.
        ModelFileError: A file is not an Opsin classifier.
        DownloadError: A model could not be fetched.
        KeyboardInterrupt: Ctrl-C ended it, after all accepted requests were answered.

    Example:
        ``opsin.serve(["boots=runs/boots", "runs/bags"])``
    """
    try:
        from opsin.server import app  # noqa: PLC0415  FastAPI is slow to load
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("opsin"):
            raise
        raise MissingExtraError("serving", "serve") from error
    app.serve(models, settings or ServerSettings(), watcher)
