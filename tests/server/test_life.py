"""A server as a process: it starts, says where it is, and stops without losing a request."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from opsin.core.errors import RecipeError
from opsin.data.dataset import Dataset
from opsin.server import ServerSettings, serve
from tests.served import image, load, request, serving, wait_for
from tests.server.made_engine import png

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent")


def test_a_request_under_way_is_answered(
    nearest_mean: Path, digits: Dataset, tmp_path: Path
) -> None:
    image = png(digits.images[0][:, :, 0])
    with serving(f"digits={nearest_mean}", "--workers", "1", folder=tmp_path) as server:
        ready, slow = (http.client.HTTPConnection("127.0.0.1", server.port, 20) for _ in range(2))
        ready.request("GET", "/v2/health/ready")
        assert ready.getresponse().read() == b'{"ready":true}'
        slow.putrequest("POST", "/predict")
        slow.putheader("Content-Type", "image/png")
        slow.putheader("Content-Length", str(len(image)))
        slow.endheaders(image[:20])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "requests that were accepted are answered" in server.said())
        wait_for(lambda: not listens(server.port))
        slow.send(image[20:])
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
        with pytest.raises(RecipeError) as caught:
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
            with load(server.port, [request(server.port, image(1))], connections=64) as replies:
                wait_for(lambda: server.figure("opsin_images_waiting") > 0)
                assert server.stop(signal.SIGINT, signal.SIGINT) == 130
            assert {each.status for each in replies} <= {0, 503}
        assert "Traceback" not in server.said()
