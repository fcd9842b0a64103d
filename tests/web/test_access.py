"""Nobody gets past the guard by another name, origin or token; browsers by a cookie alone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given, strategies as st
from starlette.types import Message, Receive, Scope, Send

from opsin.web.access import AccessMiddleware, Fields, SignIn
from tests.web.made_requests import BEARER, HOST, TOKEN, ask, messages, scope_of

HTML = (b"accept", b"text/html,*/*;q=0.8")
POLICY = {"content-security-policy": "default-src 'none'"}


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def guard(*, host: str = "127.0.0.1", **named: Any) -> AccessMiddleware:
    return AccessMiddleware(_nobody, host=host, headers=POLICY, **named)


def status(guarded: AccessMiddleware, *headers: tuple[bytes, bytes], **named: Any) -> int:
    first = ask(guarded, list(headers), **named)
    return int(first.get("status", 0))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:80", "[::1]", "[::1]:8000", "localhost:65535"]
)
def test_own_names(host: str) -> None:
    assert status(guard(), (b"host", host.encode())) == 204


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "localhost:", "localhost:x",
     "localhost:80:80", "evil.example@localhost", "localhost/", "127.1", "0.0.0.0", "2130706433",
     "localhost:123456", "[::1", "::1", " localhost", "localhost,evil.example", "10.0.0.7"],
)  # fmt: skip
def test_other_names(host: str) -> None:
    assert status(guard(), (b"host", host.encode())) == 421


@given(st.binary(max_size=40))
def test_a_host_that_is_not_listed_never_passes(host: bytes) -> None:
    if re.fullmatch(rb"(?i)(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", host) is None:
        assert status(guard(), (b"host", host)) == 421


def test_names_elsewhere() -> None:
    there = guard(host="192.0.2.7", token=TOKEN, allowed_hosts=("Images.example.org",))
    assert status(there, (b"host", b"192.0.2.7:8000"), BEARER) == 204
    assert status(there, (b"host", b"images.example.org"), BEARER) == 204
    assert status(there, (b"host", b"localhost:8000"), BEARER) == 421
    # As it may be given, and as it stands in a Host header.
    for name in ("2001:db8::1", "[2001:db8::1]"):
        there = guard(allowed_hosts=(name,))
        for host in (b"[2001:db8::1]", b"[2001:DB8::1]:8000"):
            origin = b"https://" + host.lower()
            assert status(there, (b"host", host), (b"origin", origin)) == 204
        assert status(there, (b"host", b"[2001:db8::2]")) == 421
    everywhere = guard(host="0.0.0.0", token=TOKEN)
    for host in (b"192.0.2.7:8000", b"[2001:db8::1]", b"localhost"):
        assert status(everywhere, (b"host", host), BEARER) == 204
    assert status(everywhere, (b"host", b"evil.example"), BEARER) == 421


def test_origins() -> None:
    def of(origin: bytes, host: bytes = b"localhost:8000", **named: Any) -> int:
        guarded = guard(allowed_hosts=("images.example.org",))
        return status(guarded, (b"host", host), (b"origin", origin), **named)

    assert of(b"http://localhost:8000") == 204
    assert of(b"http://LOCALHOST:8000") == 204
    like = [b"http://localhost" + end for end in (b"", b":8001", b":8000/", b":8000.evil.example")]
    for foreign in (b"", b"null", b"https://localhost:8000", b"http://127.0.0.1:8000", *like):
        assert of(foreign) == 403, foreign
    # A proxy ends HTTPS, and passes the name on.
    assert of(b"https://images.example.org", b"images.example.org") == 204
    assert of(b"https://images.example.org", b"localhost:8000") == 403
    assert ask(guard(), [HOST, (b"origin", b"http://127.0.0.1:8000")], kind="websocket") == {
        "type": "websocket.accept"
    }


def test_a_link_may_be_followed() -> None:
    site = (b"sec-fetch-site", b"cross-site")
    link = (HOST, site, (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document"))
    assert status(guard(), *link) == 204
    assert status(guard(), *link, method="POST") == 403
    assert status(guard(), HOST, site, (b"sec-fetch-mode", b"no-cors")) == 403
    frame = (*link[:3], (b"sec-fetch-dest", b"iframe"))
    assert status(guard(), *frame) == 403
    # With a wrong origin it is no link.
    assert status(guard(), *link, (b"origin", b"http://evil.example")) == 403


def test_tokens() -> None:
    def of(shown: bytes) -> int:
        return status(guard(token=TOKEN), HOST, (b"authorization", shown))

    token = TOKEN.encode()
    for right in (
        b"Bearer " + token,
        b"bearer  " + token + b" ",
        b"Basic " + base64.b64encode(b"me:" + token),
        b"basic " + base64.b64encode(b":" + token),
    ):
        assert of(right) == 204, right
    basic = [b"Basic " + base64.b64encode(each) for each in (token, b"me:")]
    bearer = [b"Bearer" + end for end in (b"", b" ", b" " + token[:-1], b" " + token + b"x")]
    for wrong in (b"", token, b"Token " + token, b"Basic !!!", b"Bearer \xff\xfe", *basic, *bearer):
        assert of(wrong) == 401, wrong


def test_replies_carry_what_they_do_not_say_themselves() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        own = [(b"cache-control", b"private, max-age=60")]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body"})

    guarded = AccessMiddleware(app, host="127.0.0.1", headers=POLICY)
    carried = dict(ask(guarded, [HOST])["headers"])
    assert carried[b"cache-control"] == b"private, max-age=60"
    refused = dict(ask(guarded, [])["headers"])
    assert refused[b"cache-control"] == b"no-store"
    for headers in (carried, refused):
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"referrer-policy"] == b"no-referrer"
        assert headers[b"cross-origin-resource-policy"] == b"same-origin"
        assert headers[b"content-security-policy"] == b"default-src 'none'"


@pytest.mark.parametrize("gone", [True, False])
def test_a_client_that_goes_before_its_reply_is_no_fault(gone: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 500, "headers": []})
        raise RuntimeError("No response returned.")

    async def receive() -> Message:
        return {"type": "http.disconnect" if gone else "http.request"}

    async def send(message: Message) -> None:
        pass

    guarded = AccessMiddleware(app, host="127.0.0.1", headers=POLICY)
    with contextlib.nullcontext() if gone else pytest.raises(RuntimeError):
        asyncio.run(guarded(scope_of([HOST]), receive, send))


def _page(wrong: bool, further: Fields) -> str:
    return f"wrong={wrong} further={further}"


def door(sign_in: SignIn | None = None, token: str | None = TOKEN, **named: Any) -> Any:
    sign_in = sign_in or SignIn("opsin-studio-8000", _page)
    return guard(token=token, sign_in=sign_in, **named)


def signed_in(guarded: AccessMiddleware) -> tuple[bytes, bytes]:
    first = ask(guarded, [HOST], query=b"token=" + TOKEN.encode())
    found = re.match(rb"[^;]*", dict(first["headers"])[b"set-cookie"])
    assert found
    return (b"cookie", found[0])


def test_the_token_brings_a_cookie_and_leaves_the_address() -> None:
    guarded = door()
    query = b"tab=report&token=" + TOKEN.encode() + b"&q=a+b%26c&empty="
    first = ask(guarded, [HOST], path="/runs/abc", query=query)
    headers = dict(first["headers"])
    assert first["status"] == 303
    assert headers[b"location"] == b"/runs/abc?tab=report&q=a+b%26c&empty="
    assert headers[b"cache-control"] == b"no-store"
    name, _, rest = headers[b"set-cookie"].decode().partition("=")
    value, *marks = rest.split("; ")
    assert name == "opsin-studio-8000"
    assert sorted(marks) == ["HttpOnly", "Path=/", "SameSite=strict"]
    assert len(value) >= 43
    assert TOKEN not in headers[b"set-cookie"].decode() + headers[b"location"].decode()


def test_the_cookie_opens_everything() -> None:
    guarded = door()
    cookie = signed_in(guarded)
    assert ask(guarded, [HOST, cookie], method="POST")["status"] == 204
    assert ask(guarded, [HOST, cookie], kind="websocket") == {"type": "websocket.accept"}
    among = (cookie[0], b"other=1; " + cookie[1] + b"; opsin-studio-8001=2")
    assert ask(guarded, [HOST, among])["status"] == 204
    # The page of another server on this machine is given the same cookies by the browser.
    foreign = (b"origin", b"http://127.0.0.1:9000")
    assert ask(guarded, [HOST, foreign, cookie], method="POST")["status"] == 403
    assert ask(guarded, [HOST, foreign, cookie], kind="websocket")["type"] == "websocket.close"
    # Programs show the token itself.
    assert ask(guarded, [HOST, BEARER], method="POST")["status"] == 204


def test_a_code_signs_in_once() -> None:
    sign_in, used = SignIn("c", _page), list[str]()
    sign_in.used = used.append
    guarded = door(sign_in, token=None)
    first, second = sign_in.new_code(), sign_in.new_code()
    assert ask(guarded, [HOST])["status"] == 401
    assert ask(guarded, [HOST, BEARER])["status"] == 401
    entered = ask(guarded, [HOST], query=f"token={first}".encode())
    assert entered["status"] == 303
    cookie = dict(entered["headers"])[b"set-cookie"].partition(b";")[0]
    assert ask(guarded, [HOST, (b"cookie", cookie)])["status"] == 204
    assert ask(guarded, [HOST], query=f"token={first}".encode())["status"] == 401
    # A code is not the token: programs do not get in by one.
    bearer = (b"authorization", f"Bearer {second}".encode())
    assert ask(guarded, [HOST, bearer])["status"] == 401
    assert ask(guarded, [HOST], query=f"token={second}".encode())["status"] == 303
    assert used == [first, second]


def test_without_a_token_and_a_code_nobody_gets_in() -> None:
    for query in (b"", b"token=", b"token=None", b"token=" + TOKEN.encode()):
        assert ask(door(token=None), [HOST], query=query)["status"] == 401
    for shown in (b"Bearer ", b"Bearer None", b"Basic Og==", b""):
        headers = [HOST, (b"authorization", shown)]
        assert ask(door(token=None), headers)["status"] == 401
    assert ask(door(token=None), [HOST], kind="websocket")["type"] == "websocket.close"


def test_who_comes_from_elsewhere_is_sent_on_by_a_page_of_ours() -> None:
    # As when a file or a mail's link is opened: after a redirect, browsers would hold the strict
    # cookie back.
    link = [
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-mode", b"navigate"),
        (b"sec-fetch-dest", b"document"),
    ]
    query = b"q=%22%3E%3Cscript%3E&token=" + TOKEN.encode()
    first, *rest = asyncio.run(messages(door(), [HOST, *link], path="/runs", query=query))
    page = b"".join(each["body"] for each in rest).decode()
    assert first["status"] == 200
    assert b"SameSite=strict" in dict(first["headers"])[b"set-cookie"]
    assert 'content="0;url=/runs?q=%22%3E%3Cscript%3E"' in page
    assert TOKEN not in page


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ([HOST], False),
        ([HOST, (b"sec-fetch-site", b"none")], False),
        ([HOST, (b"x-forwarded-proto", b"https")], True),
        ([HOST, (b"x-forwarded-proto", b"http")], False),
        ([(b"host", b"images.example.org")], False),
        # Sent by HTTPS alone, whatever the proxy says.
        ([(b"host", b"images.example.org"), (b"sec-fetch-site", b"none")], True),
    ],
)
def test_a_cookie_of_https_stays_there(headers: list[tuple[bytes, bytes]], secure: bool) -> None:
    guarded = door(allowed_hosts=["images.example.org"], dropped=["x-forwarded-proto"])
    first = ask(guarded, headers, query=b"token=" + TOKEN.encode())
    assert (b"; Secure" in dict(first["headers"])[b"set-cookie"]) == secure


def test_cookies_of_others_open_nothing() -> None:
    guarded = door()
    kind, cookie = signed_in(guarded)
    for wrong in (
        cookie[:-1],
        cookie + b"x",
        cookie.replace(b"8000", b"8001"),
        b"opsin-studio-8000=",
        b"opsin-studio-8000",
        b"",
        b"x" + cookie,
        b"opsin-studio-8000=" + TOKEN.encode(),
        signed_in(door())[1],  # of another start
    ):
        assert ask(guarded, [HOST, (kind, wrong)])["status"] == 401, wrong
        refused = ask(guarded, [HOST, (kind, wrong)], kind="websocket")
        assert refused["type"] == "websocket.close"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_signs_in(method: str) -> None:
    query = b"token=" + TOKEN.encode()
    assert ask(door(), [HOST], method=method, query=query)["status"] == 401
    assert ask(door(), [HOST], kind="websocket", query=query)["type"] == "websocket.close"


@pytest.mark.parametrize(
    "query",
    [b"token=", b"token", b"token=" + TOKEN[:-1].encode(), b"Token=" + TOKEN.encode(),
     b"token=" + TOKEN.encode() + b"&token=" + TOKEN.encode(), b"token=%ff%fe", b"token=%c3%a4",
     b"\xff\xfe", b"&&;=%", TOKEN.encode()],
)  # fmt: skip
def test_other_queries_sign_nobody_in(query: bytes) -> None:
    first = ask(door(), [HOST], query=query)
    assert first["status"] == 401
    assert b"set-cookie" not in dict(first["headers"])


@given(st.text(max_size=30), st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8))))
def test_the_way_on_never_leaves_the_host(path: str, fields: Fields) -> None:
    fields = [(name, value) for name, value in fields if name != "token"]
    query = urlencode([*fields, ("token", TOKEN)], errors="replace").encode()
    reply = SignIn("c", _page).reply(scope_of([], path=path, query=query), TOKEN.encode())
    assert reply is not None
    where = reply.headers["location"]
    assert re.fullmatch(r"/(?![/\\])[!-~]*", where)
    parts = urlsplit(where)
    assert (parts.scheme, parts.netloc) == ("", "")
    kept = [tuple(part.encode("utf-8", "replace") for part in pair) for pair in fields]
    sent = parse_qsl(parts.query, keep_blank_values=True)
    assert [tuple(part.encode() for part in pair) for pair in sent] == kept


def body(headers: list[tuple[bytes, bytes]], **named: Any) -> tuple[dict[bytes, bytes], bytes]:
    first, *rest = asyncio.run(messages(door(), headers, **named))
    assert first["status"] == 401
    return dict(first["headers"]), b"".join(each["body"] for each in rest)


def test_people_are_asked_by_a_page_and_programs_by_an_error() -> None:
    headers, page = body([HOST, HTML], query=b"page=3")
    assert headers[b"content-type"].startswith(b"text/html")
    assert page == b"wrong=False further=[('page', '3')]"
    assert body([HOST, HTML], query=b"token=sesame")[1] == b"wrong=True further=[]"
    for sent, method in (([HOST], "GET"), ([HOST, HTML], "POST")):
        headers, text = body(sent, method=method)
        assert headers[b"content-type"] == b"application/json"
        assert text.startswith(b'{"error":{"kind":"Unauthorized"')
        # A browser would open a dialog of its own for Basic.
        assert headers[b"www-authenticate"] == b"Bearer"
