"""A server as a process: it starts, says where it is, and stops without losing a request."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opsin.data.dataset import Dataset
from opsin.errors import RecipeError, RunError
from opsin.events import Watcher
from opsin.server.run import _set_up_logs, serve
from opsin.server.settings import Settings
from tests.server.made_server import TOKEN, png

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent")

SCRIPT = """
import sys
from pathlib import Path
from opsin.errors import OpsinError
from opsin.events import Watcher
from opsin.server.run import serve
from opsin.server.settings import Settings

class Told(Watcher):
    def fact(self, name, text):
        print(name, text, flush=True)

try:
    serve({"digits": Path(sys.argv[1])}, Settings(port=int(sys.argv[2]), workers=1), watcher=Told())
except OpsinError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)
"""


class Process:
    """A server that runs on a port of its own."""

    def __init__(self, model: Path, port: int = 0) -> None:
        command = [sys.executable, "-W", "error", "-c", SCRIPT, str(model), str(port)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
        self.lines: list[str] = []
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith("Try "):
                break
        page = [line for line in self.lines if line.startswith("Page ")]
        self.port = int(page[0].rstrip("/").rsplit(":", 1)[1]) if page else 0

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def stop(self, by: signal.Signals) -> tuple[int, str]:
        """Send a signal, and return the exit status and what was said on standard error."""
        self.process.send_signal(by)
        output, said = self.process.communicate(timeout=20)
        self.lines += output.splitlines()
        return self.process.returncode, said


@pytest.fixture
def start(nearest_mean: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(port: int = 0) -> Process:
        started.append(Process(nearest_mean, port))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_a_request_under_way_is_answered(start: Callable[..., Process], digits: Dataset) -> None:
    server = start()
    picture = png(digits.images[0][:, :, 0])
    ready = server.connection()
    ready.request("GET", "/v2/health/ready")
    assert ready.getresponse().read() == b'{"ready":true}'

    slow = server.connection()
    slow.putrequest("POST", "/predict")
    slow.putheader("Content-Type", "image/png")
    slow.putheader("Content-Length", str(len(picture)))
    slow.endheaders(picture[:20])
    time.sleep(0.2)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.port))
    slow.send(picture[20:])
    reply = slow.getresponse()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert b'"label":"0"' in reply.read()
    assert server.stop(signal.SIGTERM) == (0, "")
    assert "Stops requests that were accepted are answered" in server.lines
    slow.close()
    ready.close()


def test_ctrl_c_and_a_port_in_use(start: Callable[..., Process]) -> None:
    first = start()
    second = start(first.port)
    code, said = second.stop(signal.SIGTERM)
    assert (code, second.lines) == (1, [])
    assert said == (
        f"expected a port that is free; 127.0.0.1, port {first.port} is in use. "
        "Choose another one, or 0 for any that is free.\n"
    )
    assert first.stop(signal.SIGINT) == (130, "")
    assert first.lines[0] == "Serves digits · 10 classes · 8×8 grey"


def test_a_line_for_each_request_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("uvicorn.access")
    before = log.handlers, log.level, log.propagate
    try:
        _set_up_logs(Settings())
        log.info("silence")
        _set_up_logs(Settings(access_log=True))
        _set_up_logs(Settings(access_log=True))
        log.info("a request")
    finally:
        log.handlers, log.level, log.propagate = before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" a request")


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        serve({"demo": tmp_path / "nothing"}, Settings(port=0, workers=1))


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "256.0.0.1"])
def test_an_address_of_somebody_else(tmp_path: Path, host: str) -> None:
    told: list[str] = []

    class Told(Watcher):
        def fact(self, name: str, text: str) -> None:
            told.append(text)

    with pytest.raises(RecipeError, match="an address of this machine") as caught:
        serve({"demo": tmp_path}, Settings(host=host, port=0, token=TOKEN), watcher=Told())
    assert TOKEN not in str(caught.value)
    assert not told
