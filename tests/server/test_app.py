"""The routes around predicting, what goes wrong beside them, and the guard in front of them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

import opsin
from opsin.core.errors import ModelFileError, RecipeError
from opsin.server import ServerSettings, errors
from opsin.server.app import Application
from opsin.server.engine import Engine
from opsin.web import refusals
from opsin.web.refusals import RequestError
from tests.server.made_engine import Asks, Host
from tests.web.made_requests import BEARER, HOST, TOKEN, first_message, passed, paths_of


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
        ("POST", "/predict?model=dogs", 404, "UnknownModel"),
        ("POST", "/v1/models/dogs:predict-image", 404, "UnknownModel"),
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


def test_faults_are_told_to_the_log_alone(
    asks: Asks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
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
        assert "/home/secret" in caplog.text
        caplog.clear()
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_description_is_whole(asks: Asks) -> None:
    reply = asks.get("/openapi.json")
    schema = reply.json()
    references = re.findall(r'"\$ref": ?"#/components/schemas/([^"]+)"', reply.text)
    assert references and set(references) <= set(schema["components"]["schemas"])
    assert len(references) == reply.text.count('"$ref"')
    described = {path for path in schema["paths"] if not path.startswith("/v2")}
    of_model = {"/v1/models/{model}" + end for end in ("", ":predict-image", ":explain-image")}
    assert described == of_model | {"/predict", "/explain", "/v1/models", "/metrics"}
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


@pytest.fixture(scope="module")
def guarded(host: Host) -> Asks:
    return host.asks(ServerSettings(token=TOKEN))


def test_nothing_passes(guarded: Asks) -> None:
    paths = paths_of(guarded.app.routes, "digits")
    some = {"/predict", "/v1/models/digits:predict-image", "/v2/health/live", "/metrics"}
    assert some | {"/", "/docs", "/openapi.json"} <= set(paths)
    assert not guarded.run(passed(guarded.app, [*paths, "/nowhere"]))


def test_friends_pass_everywhere(guarded: Asks) -> None:
    app = guarded.app
    for route in app.routes:
        assert isinstance(route, Route)
        (path,) = paths_of([route], "digits")
        method = sorted(route.methods or ())[0]
        answer = guarded.run(first_message(app, [HOST, BEARER], path=path, method=method))
        assert answer["status"] not in (401, 403, 405, 421), path
    assert any(isinstance(route, APIRoute) for route in app.routes)


def test_the_token_is_told_nowhere(guarded: Asks, caplog: pytest.LogCaptureFixture) -> None:
    shown = {"authorization": f"Bearer {TOKEN}"}
    texts = [repr(ServerSettings(token=TOKEN))]
    for path in ("/openapi.json", "/metrics", "/nowhere", "/v1/models", "/", "/docs"):
        texts += [guarded.get(path, headers=shown).text, guarded.get(path).text]
    wrong = f"{TOKEN}wrong"
    texts.append(guarded.get("/", headers={"authorization": f"Bearer {wrong}"}).text)
    texts.append(caplog.text)
    assert not [text for text in texts if TOKEN in text]


def test_refusals_are_counted_by_their_reason(guarded: Asks) -> None:
    shown = {"authorization": f"Bearer {TOKEN}"}

    def counted() -> dict[str, float]:
        reply = guarded.get("/metrics", headers=shown)
        # Prometheus' own library for Go knows no later version of it.
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = reply.text.splitlines()
        found = (
            re.fullmatch(r'opsin_refusals_total\{reason="(.+)"\} (.+)', line) for line in lines
        )
        return {each[1]: float(each[2]) for each in found if each}

    before = counted()
    for headers, status in (
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({**shown, "host": "evil.example"}, 421),
        ({**shown, "origin": "http://evil.example"}, 403),
    ):
        assert guarded.get("/v1/models", headers=headers).status_code == status
    guarded.run(first_message(guarded.app, [BEARER]))  # without a Host
    grown = {reason: count - before[reason] for reason, count in counted().items()}
    assert {reason: count for reason, count in grown.items() if count} == {
        "no token": 2,
        "wrong host": 1,
        "foreign origin": 1,
        "no host": 1,
    }


def test_each_has_its_status() -> None:
    found: dict[int, set[str]] = {}
    for kind in (*vars(errors).values(), *vars(refusals).values()):
        if isinstance(kind, type) and issubclass(kind, RequestError):
            found.setdefault(kind.status, set()).add(kind.__name__)
            assert kind.status != 503 or "retry-after" in kind.headers
    assert found == {
        400: {"RequestError", "BadRequest"},
        401: {"Unauthorized"},
        403: {"ForeignOrigin"},
        404: {"NotFound", "UnknownModel"},
        405: {"MethodNotAllowed"},
        408: {"SlowRequest"},
        413: {"TooLarge"},
        415: {"WrongMediaType"},
        421: {"WrongHost"},
        431: {"LongHeaders"},
        500: {"InternalError", "BadAnswer"},
        504: {"Expired"},
        503: {"TooManyConnections", "Overloaded", "WorkerDied", "Stopping"},
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", -1), ("port", 65_536), ("max_bytes", 0), ("queue", 0),
     ("deadline", 0), ("deadline", float("nan")), ("deadline", float("inf")), ("workers", 0),
     ("max_pixels", 50_000_001), ("batch", -3), ("port", 80.5), ("queue", 1.5),
     ("host", ""), ("device", "gpu")],
)  # fmt: skip
def test_values_out_of_range(name: str, value: float | str) -> None:
    with pytest.raises(RecipeError, match=name):
        ServerSettings(**{name: value})  # type: ignore[arg-type]
