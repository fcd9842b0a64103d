"""`opsin serve` as a process: each its own answer, and under abuse no crash and no hang."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import signal
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

import opsin
from opsin.server import ServerSettings, serve
from tests.data.test_formats import chunk, png
from tests.served import Server, ask_all, encoded, image, request, serving, wait_for

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

SLOW = 200


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_concurrent_answers_are_those_of_their_images(
    count: int, server: Server, nearest_mean: Path
) -> None:
    contents = [image(number) for number in range(count)]
    replies = ask_all(server.url, contents, path="/predict?all=true")
    classifier = opsin.Classifier(nearest_mean, threads=1)
    answers = set()
    for content, reply in zip(contents, replies, strict=True):
        assert reply.status_code == 200, reply.text
        [entry] = reply.json()["predictions"]
        assert entry["probabilities"] == classifier.predict(content).probabilities
        answers.add(tuple(entry["probabilities"].values()))
    # Otherwise, one answer could stand for another and nobody would see it.
    assert len(answers) > 0.9 * count


def test_slow_connections_do_not_keep_others_from_their_answers(server: Server) -> None:
    whole = request(server.port, image(1))
    contents = [image(number) for number in range(100)]

    async def trickle() -> list[int]:
        streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(SLOW)]
        for number, (_, writer) in enumerate(streams):
            # Half of them hang in their headers, half in their image.
            writer.write(whole[: 10 if number % 2 else -10])
        replies = await asyncio.to_thread(ask_all, server.url, contents, 8)
        for number, (_, writer) in enumerate(streams):
            writer.write(whole[10 if number % 2 else -10 :])
        # Slow is no offence: in the end they are answered, too.
        heads = [await reader.readuntil(b"\r\n") for reader, _ in streams]
        for _, writer in streams:
            writer.close()
        return [reply.status_code for reply in replies] + [int(head[9:12]) for head in heads]

    assert asyncio.run(trickle()) == [200] * (100 + SLOW)


@pytest.mark.parametrize("path", ["/predict", "/v2/models/{model}/infer"])
def test_who_goes_away_frees_the_place(server: Server, path: str) -> None:
    whole = request(server.port, image(1))
    if "v2" in path:
        tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 1], "data": [0] * 64}
        body = json.dumps({"inputs": [tensor]}).encode()
        whole = request(server.port, body, path=path.format(model="digits"))
    name = f'opsin_requests_total{{model="digits",route="{path}",status="499"}}'
    gone = server.figure(name)

    async def come_and_go() -> None:
        # More than its workers are given at once: the others wait.
        streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(80)]
        for _, writer in streams:
            writer.write(whole)
        await asyncio.to_thread(wait_for, lambda: server.figure("opsin_images_waiting") > 10)
        for _, writer in streams:
            writer.transport.abort()

    with server.halted():
        asyncio.run(come_and_go())
        # Long before the deadline, which is 30 s.
        wait_for(lambda: server.figure("opsin_images_waiting") == 0, 10)
        wait_for(lambda: server.figure(name) == gone + 80, 10)
    assert ask_all(server.url, [image(1)])[0].status_code == 200


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    # One for all: each makes certificates ready, which takes longer than an answer.
    with httpx.Client(base_url=server.url, timeout=60) as opened:
        yield opened


def hostile() -> list[bytes]:
    good = encoded(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    jpeg = encoded(np.arange(300, dtype=np.uint8).reshape(10, 10, 3), "JPEG")
    frames = io.BytesIO()
    pages = [Image.new("P", (20, 20), colour) for colour in range(50)]
    pages[0].save(frames, "GIF", save_all=True, append_images=pages[1:])
    return [
        b"",
        b"\0" * 1000,
        b"GIF89a",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"\x89PNG\r\n\x1a\n",
        *(good[:cut] for cut in range(8, len(good), 9)),
        *(jpeg[:cut] for cut in range(2, len(jpeg), 37)),
        # Bombs: 2^31 pixels a side, or 4 GB behind a few bytes.
        png(2**31 - 1, 2**31 - 1, 8, 2, b""),
        png(0, 0, 8, 2, b""),
        png(40_000, 40_000, 1, 0, bytes(5001 * 1000)),
        png(10, 10, 8, 2, bytes(50_000_000)),
        png(10, 10, 3, 9, bytes(400)),
        good[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(30_000_000), 9)) + good[33:],
        frames.getvalue(),
        frames.getvalue()[:-100],
        jpeg[:2] + b"\xff\xe1\xff\xff" + jpeg[2:],
        jpeg.replace(b"\xff\xc0", b"\xff\xc9"),
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**31 - 1, -1, 1, 24, *[0] * 6),
        b"II*\0" + struct.pack("<IHHHII", 8, 0xFFFF, 256, 4, 1, 2**32 - 1) * 20,
        b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(30),
    ]


def test_files_that_lie_are_refused_or_read(client: Any) -> None:
    statuses = [client.post("/predict", content=content).status_code for content in hostile()]
    assert set(statuses) <= {200, 400, 413, 422}
    assert statuses.count(200) < len(statuses) / 2


@given(st.data())
@settings(max_examples=60)
def test_any_bytes_in_any_wrapping_get_an_answer(client: Any, data: st.DataObject) -> None:
    content = data.draw(st.binary(max_size=400))
    if data.draw(st.booleans()):  # something that begins like an image
        good = encoded(np.zeros((8, 8), np.uint8), data.draw(st.sampled_from(["PNG", "JPEG"])))
        cut = data.draw(st.integers(0, len(good)))
        content = good[:cut] + content + good[cut + len(content) :]
    kinds = ["image/png", "application/json", "application/octet-stream", "text/plain"]
    odd = ["", "multipart/form-data", "multipart/form-data; boundary=x", "\xe4/;;"]
    kind = data.draw(st.sampled_from([*kinds, *odd]))
    if data.draw(st.booleans()) and "boundary" in kind:
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        content = head + content + data.draw(st.sampled_from([b"\r\n--x--\r\n", b"\r\n--x", b""]))
    headers = {"content-type": kind.encode("latin-1")}
    reply = client.post("/predict", content=content, headers=headers)
    assert reply.status_code < 500, reply.text
    body: Any = reply.json()
    assert ("predictions" in body) == (reply.status_code == 200)
    if reply.status_code != 200:
        assert set(body["error"]) == {"kind", "message", "advice"}


@pytest.mark.slow
def test_every_operation_keeps_to_its_description(server: Server) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    served = {"model": "digits", "version": "1"}
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 5
    for operation in operations:
        # What it should understand, about a model that is there and any other, and what it
        # should refuse, where there is more than an address to get wrong.
        strategy = operation.as_strategy()
        if "{" in operation.path:
            strategy |= operation.as_strategy(path_parameters=served)
        if operation.body:
            strategy |= operation.as_strategy(GenerationMode.NEGATIVE, path_parameters=served)

        @given(case=strategy)
        @settings(max_examples=8, suppress_health_check=list(HealthCheck))
        def keeps(case: Any) -> None:
            response = case.call(base_url=server.url, timeout=30)
            case.validate_response(response, checks=checks)

        keeps()


def test_a_request_under_way_is_answered(
    nearest_mean: Path, digits: opsin.Dataset, tmp_path: Path
) -> None:
    content = encoded(digits.images[0][:, :, 0])
    with serving(f"digits={nearest_mean}", "--workers", "1", folder=tmp_path) as server:
        ready, slow = (http.client.HTTPConnection("127.0.0.1", server.port, 20) for _ in range(2))
        ready.request("GET", "/v2/health/ready")
        assert ready.getresponse().read() == b'{"ready":true}'
        slow.putrequest("POST", "/predict")
        slow.putheader("Content-Type", "image/png")
        slow.putheader("Content-Length", str(len(content)))
        slow.endheaders(content[:20])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "requests that were accepted are answered" in server.said())
        wait_for(lambda: not listens(server.port))
        slow.send(content[20:])
        reply = slow.getresponse()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert b'"label":"0"' in reply.read()
        assert server.process.wait(20) == 0
        slow.close()
        ready.close()
        first, last = server.said().splitlines()[0], server.said().splitlines()[-1]
        assert first.split(maxsplit=1) == ["Serves", "digits · 10 classes · 8×8 grey"]
        assert last.split()[0] == "Stops"


def listens(port: int) -> bool:
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def test_ctrl_c_and_a_port_in_use(nearest_mean: Path, tmp_path: Path) -> None:
    with serving(nearest_mean, "--workers", "1", "--access-log", folder=tmp_path) as server:
        server.figure("opsin_images_waiting")
        assert server.said().splitlines()[-1].endswith('"GET /metrics HTTP/1.1" 200')
        with pytest.raises(opsin.RecipeError) as caught:
            serve({"second": nearest_mean}, ServerSettings(port=server.port, workers=1))
        assert f"Port {server.port} of 127.0.0.1 is in use" in str(caught.value)
        assert server.stop(signal.SIGINT) == 130
        assert server.said().splitlines()[-1].split()[0] == "Stops"


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_answers(nearest_mean: Path, tmp_path: Path) -> None:
    # Ten minutes: far more than the test waits for the server's end.
    words = ("--workers", "1", "--deadline", "600")
    with serving(nearest_mean, *words, folder=tmp_path) as server:
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(request(server.port, image(2))[:-10])
        with half, server.halted():
            # More than its worker is given at once: the others wait.
            with ThreadPoolExecutor(1) as pool:
                replies = pool.submit(ask_all, server.url, [image(1)] * 64)
                wait_for(lambda: server.figure("opsin_images_waiting") > 0)
                assert server.stop(signal.SIGINT, signal.SIGINT) == 130
            assert {each.status_code for each in replies.result()} <= {0, 503}
        assert "Traceback" not in server.said()
