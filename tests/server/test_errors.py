"""Errors have one shape, and tell nothing of the server."""

from __future__ import annotations

import json

import pytest

from opsin.core import errors as core
from opsin.core.errors import ImageError, OpsinError
from opsin.server.errors import WorkerDied
from opsin.web.refusals import error_reply


def test_their_shape() -> None:
    for error, status in ((WorkerDied(), 503), (ImageError("What is wrong", "What to do."), 422)):
        reply = error_reply(error)
        assert reply.status_code == status
        shape = {"kind": type(error).__name__, "message": error.message, "advice": error.advice}
        assert json.loads(bytes(reply.body)) == {"error": shape}
        assert ("retry-after" in reply.headers) == (status == 503)


KINDS = [
    kind
    for kind in vars(core).values()
    if isinstance(kind, type) and issubclass(kind, OpsinError) and kind is not ImageError
]


@pytest.mark.parametrize("kind", KINDS)
def test_other_errors_say_nothing(kind: type[OpsinError]) -> None:
    if kind is core.MissingExtraError:
        error: OpsinError = core.MissingExtraError("secret", "secret")
    elif kind is core.MovedError:
        error = core.MovedError("/home/secret", ["/home/secret/images"])
    else:
        error = kind("/home/secret/classifier.onnx is none", "See /home/secret.")
    reply = error_reply(error)
    assert reply.status_code == 500
    assert b"secret" not in reply.body
    assert b'"kind":"InternalError"' in reply.body
