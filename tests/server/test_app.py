"""The routes around predicting, and what goes wrong beside them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.core.errors import ModelFileError
from opsin.server import ServerSettings
from opsin.server.app import Application
from opsin.server.engine import Engine
from tests.server.made_server import Asks, Host
from tests.web.made_requests import TOKEN


@pytest.fixture(scope="module")
def asks(host: Host) -> Asks:
    return host.asks()


def test_models(asks: Asks, nearest_mean: Path) -> None:
    (card,) = asks.get("/v1/models").json()["models"]
    assert card == asks.get("/v1/models/digits").json()
    assert card["classes"] == list(opsin.Classifier(nearest_mean).classes)
    assert card["size"] == {"height": 8, "width": 8, "channels": 1}
    assert (card["kind"], card["rejects"], card["score"]) == ("mlp", False, None)
    assert str(nearest_mean.parent) not in json.dumps(card)


def test_a_class_whose_name_is_no_unicode(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    served = asks.app.engine.served["digits"]
    metadata = served.metadata.model_copy(update={"classes": ("a\udcff",)})
    served_models = asks.app.engine.served
    monkeypatch.setitem(served_models, "digits", dataclasses.replace(served, metadata=metadata))
    for path in ("/v1/models", "/v1/models/digits"):
        reply = asks.get(path)
        assert reply.status_code == 200
        assert b'["a\\udcff"]' in reply.content


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "NotFound"), ("POST", "/", 405, "MethodNotAllowed"),
        ("GET", "/predict", 405, "MethodNotAllowed"), ("GET", "/predict/", 404, "NotFound"),
        ("GET", "/v1/models/dogs", 404, "UnknownModel"),
        ("GET", "/v1/models/digits:predict-image", 405, "MethodNotAllowed"),
        ("DELETE", "/v1/models/digits", 405, "MethodNotAllowed"),
        ("OPTIONS", "/predict", 405, "MethodNotAllowed"),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", 404, "NotFound"),
        ("GET", "/page/..%2fapp.py", 404, "NotFound"),
    ],
)  # fmt: skip
def test_wrong_addresses(asks: Asks, method: str, path: str, status: int, kind: str) -> None:
    reply = asks.run(asks.client.request(method, path))
    assert (reply.status_code, reply.json()["error"]["kind"]) == (status, kind)
    assert ("allow" in reply.headers) == (status == 405)
    assert "location" not in reply.headers


def test_faults_say_nothing(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        RuntimeError("/home/secret"),
        ModelFileError("/home/secret is none", "See to it."),
    ):

        def broken(*_: object, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr("opsin.server.app.ModelCard.of", broken)
        reply = asks.get("/v1/models")
        assert reply.status_code == 500
        assert reply.json()["error"]["kind"] == "InternalError"
        assert "secret" not in reply.text
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_lifespan_starts_the_engine(nearest_mean: Path) -> None:
    async def life() -> tuple[bool, bool, bool]:
        engine = Engine({"digits": nearest_mean}, ServerSettings(workers=1))
        app = Application(engine, ServerSettings())
        before = engine.ready
        async with app.router.lifespan_context(app):
            during = engine.ready
        return before, during, engine.ready

    assert asyncio.run(life()) == (False, True, False)


def test_the_description_is_whole(asks: Asks) -> None:
    schema = asks.get("/openapi.json").json()
    names = schema["components"]["schemas"]

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, below in value.items():
                if name == "$ref":
                    yield below
                else:
                    yield from references(below)
        elif isinstance(value, list):
            for below in value:
                yield from references(below)

    for reference in references(schema):
        assert reference.removeprefix("#/components/schemas/") in names, reference
    described = {path for path in schema["paths"] if not path.startswith("/v2")}
    assert described == {
        "/predict", "/explain", "/v1/models", "/v1/models/{model}",
        "/v1/models/{model}:predict-image", "/v1/models/{model}:explain-image", "/metrics",
    }  # fmt: skip
    assert "security" not in schema
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert {"200", "400", "401", "403", "421"} <= set(operation["responses"]), path
    assert "HTTPValidationError" not in json.dumps(schema)


def test_the_description_names_the_token_where_there_is_one(nearest_mean: Path) -> None:
    app = Application(
        Engine({"digits": nearest_mean}, ServerSettings(workers=1)), ServerSettings(token=TOKEN)
    )
    schema = app.openapi()
    assert schema["security"] == [{"token": []}, {"password": []}]
    assert TOKEN not in json.dumps(schema)
