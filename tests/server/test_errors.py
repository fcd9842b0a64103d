"""Errors have one shape, a status of their own, and tell nothing of the server."""

from __future__ import annotations

import json

import pytest

from opsin.core import errors as core
from opsin.core.errors import ImageError, OpsinError
from opsin.server import errors
from opsin.web import refusals
from opsin.web.refusals import error_object, error_reply

PARTS = ("What is wrong", "What to do.")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (refusals.BadRequest(*PARTS), 400), (refusals.Unauthorized(*PARTS), 401),
        (refusals.ForeignOrigin(*PARTS), 403), (errors.NotFound(*PARTS), 404),
        (errors.UnknownModel(*PARTS), 404), (errors.MethodNotAllowed(*PARTS), 405),
        (errors.SlowRequest(*PARTS), 408), (errors.TooLarge(*PARTS), 413),
        (errors.WrongMediaType(*PARTS), 415),
        (refusals.WrongHost(*PARTS), 421), (ImageError(*PARTS), 422),
        (errors.Overloaded(*PARTS), 503), (errors.WorkerDied(), 503),
        (errors.Stopping(), 503), (errors.Expired(*PARTS), 504),
    ],
)  # fmt: skip
def test_statuses(error: OpsinError, status: int) -> None:
    reply = error_reply(error)
    assert reply.status_code == status
    content = json.loads(bytes(reply.body))
    kind = type(error).__name__
    assert content == {"error": {"kind": kind, "message": error.message, "advice": error.advice}}
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
    assert error_reply(error).status_code == 500
    assert "secret" not in str(error_object(error))
    assert error_object(error)["kind"] == "InternalError"
