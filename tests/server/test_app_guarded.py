"""Nobody gets past the server's guard: every route, method and kind of connection."""

from __future__ import annotations

import re

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from opsin.server import ServerSettings
from tests.server.made_server import Asks, Host
from tests.web.made_requests import BEARER, HOST, TOKEN, first_message, passed, paths_of


@pytest.fixture(scope="module")
def asks(host: Host) -> Asks:
    return host.asks(ServerSettings(token=TOKEN))


def test_nothing_passes(asks: Asks) -> None:
    paths = paths_of(asks.app.routes, "digits")
    assert {"/predict", "/v1/models/digits:predict-image", "/v2/health/live", "/metrics", "/",
            "/docs", "/openapi.json"} <= set(paths)  # fmt: skip
    assert not asks.run(passed(asks.app, [*paths, "/nowhere"]))


def test_friends_pass_everywhere(asks: Asks) -> None:
    app = asks.app
    for route in app.routes:
        assert isinstance(route, Route)
        (path,) = paths_of([route], "digits")
        method = sorted(route.methods or ())[0]
        answer = asks.run(first_message(app, [HOST, BEARER], path=path, method=method))
        assert answer["status"] not in (401, 403, 405, 421), path
    assert any(isinstance(route, APIRoute) for route in app.routes)


def test_what_replies_carry(asks: Asks) -> None:
    refused = asks.get("/v1/models")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert set(refused.json()["error"]) == {"kind", "message", "advice"}
    answered = asks.get("/v1/models", headers={"authorization": f"Bearer {TOKEN}"})
    assert answered.status_code == 200
    for reply in (refused, answered):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_the_token_is_told_nowhere(asks: Asks, caplog: pytest.LogCaptureFixture) -> None:
    shown = {"authorization": f"Bearer {TOKEN}"}
    texts = [repr(ServerSettings(token=TOKEN))]
    for path in ("/openapi.json", "/metrics", "/nowhere", "/v1/models", "/", "/docs"):
        texts += [asks.get(path, headers=shown).text, asks.get(path).text]
    wrong = f"{TOKEN}wrong"
    texts.append(asks.get("/", headers={"authorization": f"Bearer {wrong}"}).text)
    texts.append(caplog.text)
    assert not [text for text in texts if TOKEN in text]


def test_refusals_are_counted_by_their_reason(asks: Asks) -> None:
    shown = {"authorization": f"Bearer {TOKEN}"}

    def counted() -> dict[str, float]:
        lines = asks.get("/metrics", headers=shown).text.splitlines()
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
        assert asks.get("/v1/models", headers=headers).status_code == status
    asks.run(first_message(asks.app, [BEARER]))  # without a Host
    grown = {reason: count - before[reason] for reason, count in counted().items()}
    assert {reason: count for reason, count in grown.items() if count} == {
        "no token": 2, "wrong host": 1, "foreign origin": 1, "no host": 1
    }  # fmt: skip
