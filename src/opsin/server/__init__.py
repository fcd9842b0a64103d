"""A REST server that answers with labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError
from opsin.core.events import SILENT, Watcher
from opsin.server.settings import ServerSettings

if TYPE_CHECKING:
    from types import ModuleType

    from opsin.server.app import Application

Models = (
    str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]
)


@checked
def serve(
    models: Models, settings: ServerSettings | None = None, *, watcher: Watcher = SILENT
) -> None:
    """Serve classifiers over HTTP until the process is asked to stop (Ctrl-C, SIGTERM).

    Args:
        models: A run directory, a ``classifier.onnx``, or ``hf:owner/name[@revision]`` on the
            Hugging Face hub; several, each also as ``NAME=MODEL``; or these by name.
        settings: How to listen, whom to answer and what to accept
            (default: `ServerSettings` of ``opsin.server.settings`` as it is: this machine
            only, port 8000).
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
    run = _server()
    run.serve(run.named_models(models, watcher), settings, watcher=watcher)


@checked
def served_app(models: Models, **settings: Any) -> Application:
    """Return the application of `serve` for another ASGI server.

    Its lifespan starts and ends the worker processes. It does not listen itself:
    the other server decides who can connect.

    Args:
        models: As for `serve`.
        **settings: Fields of `ServerSettings`; those for listening and
            logging have no effect.

    Raises:
        OpsinError: As from `serve`, except for the address.

    Example:
        ``serve.ingress(lambda: served_app("runs/boots", workers=1))`` with Ray Serve.
    """
    run = _server()
    app: Application = run.application(run.named_models(models, SILENT), ServerSettings(**settings))
    return app


def _server() -> ModuleType:
    """The part that needs FastAPI, which is slow to load."""
    try:
        from opsin.server import run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("opsin"):
            raise
        raise MissingExtraError("serving", "serve") from error
    return run
