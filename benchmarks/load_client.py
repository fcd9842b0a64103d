"""A cheap HTTP client, and a load for servers.

    python benchmarks/load_client.py TASK.json

It is for benchmarks/serving.py, and a process of its own where it loads a server. TASK.json holds
``port``, ``requests`` (a file of whole HTTP requests, by `write_requests`), ``seconds`` and either
``connections`` (each asks again as soon as it is answered) or ``rate`` (requests a second, whether
or not the earlier ones are answered). One line of JSON comes out. A latency counts from the moment
at which a request was due, so that waiting in the client is no secret (G. Tene's "coordinated
omission"). Where wrk is installed, `load` lets it do the first kind: it takes less of the processor
than Python does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

# How often requests that are due are sent, in seconds.
_TICK: Final = 0.002

# Each thread of wrk reads the same file of requests and sends them in turn.
_WRK_SCRIPT: Final = """
local requests, place = {}, 0
function init(arguments)
  local file = io.open(arguments[1], "rb")
  while true do
    local size = file:read(8)
    if not size then break end
    local length = 0
    for at = 1, 8 do length = length * 256 + size:byte(at) end
    requests[#requests + 1] = file:read(length)
  end
  file:close()
end
function request()
  place = place % #requests + 1
  return requests[place]
end
function done(summary, latency, each)
  local lost = summary.errors
  print(string.format(
    '{"answers": %d, "refused": %d, "lost": %d, "seconds": %f, "p50": %f, "p99": %f, "worst": %f}',
    summary.requests, lost.status, lost.connect + lost.read + lost.write + lost.timeout,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3))
end
"""


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Args:
        status: Of HTTP; 0 where the connection ended without an answer.
        head: Status line and headers.
        body: The content.
    """

    status: int
    head: bytes = b""
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return a header's value."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode("latin-1").lower() == name.lower():
                return value.strip().decode("latin-1")
        return None


class _Wire(asyncio.Protocol):
    """One connection, from its opening to its end."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._buffer = bytearray()

    def send(self, request: bytes) -> asyncio.Future[Reply]:
        """Send a request; its answer will come."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport is None or not self.open:
            self._waiting.set_result(Reply(0))
        else:
            self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        """Close it."""
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what was opened."""
        # No check of its type: uvloop's transports are of a class of their own.
        self._transport, self.open = cast("asyncio.Transport", transport), True

    def data_received(self, data: bytes) -> None:
        """Collect the answer until it is whole."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end])
        lower = head.lower()
        place = lower.find(b"\r\ncontent-length:")
        if place < 0:
            self.close()
            self._answer(Reply(0, head))  # nothing that we ask is answered in chunks
            return
        length = int(lower[place + 17 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        self._buffer.clear()
        if b"\r\nconnection: close" in lower:
            self.close()
        self._answer(Reply(int(head[9:12]), head, body))

    def connection_lost(self, _: Exception | None) -> None:
        """Say that there will be no answer."""
        self.open = False
        self._answer(Reply(0))

    def _answer(self, reply: Reply) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)


class Connection:
    """A connection that is kept open, and opened again where the server has closed it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._wire = _Wire()

    async def ask(self, request: bytes) -> Reply:
        """Send a request and return its answer; status 0 where there is none."""
        if not self._wire.open:
            self._wire = _Wire()
            loop = asyncio.get_running_loop()
            try:
                await loop.create_connection(lambda: self._wire, "127.0.0.1", self.port)
            except OSError:
                return Reply(0)
        return await self._wire.send(request)

    def close(self) -> None:
        """Close it."""
        self._wire.close()


@dataclass
class Tally:
    """What a load has brought: latencies in seconds by status."""

    latencies: dict[int, list[float]] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    unsent: int = 0
    without_retry_after: int = 0

    def add(self, reply: Reply, seconds: float) -> None:
        """Count an answer."""
        self.latencies.setdefault(reply.status, []).append(seconds)
        if reply.status == 503 and reply.header("retry-after") is None:
            self.without_retry_after += 1
        if reply.status != 200 and len(self.causes) < 20:
            self.causes[f"{reply.status} {reply.body[:200].decode('utf-8', 'replace')}"] += 1

    def figures(self, seconds: float) -> dict[str, Any]:
        """Return rate, percentiles in milliseconds and the number of answers of each status."""
        answered = np.array(self.latencies.get(200, [])) * 1000
        percentiles = np.percentile(answered, [50, 99]).tolist() if len(answered) else [None, None]
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "rate": len(answered) / seconds,
            "p50": percentiles[0],
            "p99": percentiles[1],
            "worst": float(answered.max()) if len(answered) else None,
            "statuses": {str(status): len(each) for status, each in self.latencies.items()},
            "causes": dict(self.causes),
            "unsent": self.unsent,
            "without_retry_after": self.without_retry_after,
            "client_cpu": (used.ru_utime + used.ru_stime) / seconds,
        }


def http_request(
    port: int, body: bytes, kind: str = "application/octet-stream", path: str = "/predict"
) -> bytes:
    """Return a whole POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def json_body(image: bytes) -> bytes:
    """Return an image in base64 as JSON."""
    return json.dumps({"image": base64.b64encode(image).decode()}).encode()


def write_requests(file: Path, requests: Sequence[bytes]) -> None:
    """Write requests one behind the other, each after its length."""
    with file.open("wb") as out:
        for request in requests:
            out.write(len(request).to_bytes(8, "big") + request)


def read_requests(file: Path) -> list[bytes]:
    """Read what `write_requests` wrote."""
    content, place, found = file.read_bytes(), 0, []
    while place < len(content):
        length = int.from_bytes(content[place : place + 8], "big")
        found.append(content[place + 8 : place + 8 + length])
        place += 8 + length
    return found


async def closed_loop(
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> dict[str, Any]:
    """Ask on so many connections, each the next thing as soon as it is answered."""
    tally, began = Tally(), time.perf_counter()

    async def one(start: int) -> None:
        connection, place = Connection(port), start
        while (asked := time.perf_counter()) < began + seconds:
            reply = await connection.ask(requests[place % len(requests)])
            tally.add(reply, time.perf_counter() - asked)
            place += connections
            if reply.status != 200:
                await asyncio.sleep(0.01)  # nobody asks a server that refuses in a tight loop
        connection.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    return tally.figures(time.perf_counter() - began)


async def open_loop(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, most: int = 2000
) -> dict[str, Any]:
    """Ask so many times a second, on as many connections as that takes, ``most`` at the most."""
    tally, sent, opened = Tally(), 0, 0
    idle: deque[Connection] = deque()
    running: set[asyncio.Task[None]] = set()

    async def one(connection: Connection, request: bytes, due: float) -> None:
        reply = await connection.ask(request)
        tally.add(reply, time.perf_counter() - due)
        idle.append(connection)

    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        while sent < (now - began) * rate:
            due = began + sent / rate
            sent += 1
            if not idle and opened == most:
                tally.unsent += 1
                continue
            if not idle:
                opened += 1
                idle.append(Connection(port))
            # The one used last: the server may close those that nobody needs.
            task = asyncio.create_task(one(idle.pop(), requests[sent % len(requests)], due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.sleep(_TICK)
    late = 0
    if running:
        _, unanswered = await asyncio.wait(running, timeout=60)
        late = len(unanswered)
        for task in unanswered:
            task.cancel()
    found = tally.figures(time.perf_counter() - began)
    return {**found, "offered": rate, "connections": opened, "unanswered": late}


def run(work: Any) -> Any:
    """Run a coroutine, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def load(
    port: int, requests: Sequence[bytes], seconds: float, *, connections: int = 0, rate: float = 0
) -> dict[str, Any]:
    """Load a server from a process of its own, by wrk where that can do it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requests"
        write_requests(file, requests)
        if not rate and (wrk := shutil.which("wrk")):
            return _wrk(wrk, file, port, connections, seconds)
        task = Path(folder) / "task.json"
        what = {"rate": rate} if rate else {"connections": connections}
        content = {"port": port, "requests": str(file), "seconds": seconds, **what}
        task.write_text(json.dumps(content), encoding="utf-8")
        command = [sys.executable, __file__, str(task)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return {"client": "python", **found}


def _wrk(wrk: str, file: Path, port: int, connections: int, seconds: float) -> dict[str, Any]:
    script = file.with_name("requests.lua")
    script.write_text(_WRK_SCRIPT, encoding="utf-8")
    command = [
        wrk,
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "60s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/",
        str(file),
    ]
    before = os.times()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = os.times()
    found = json.loads(done.stdout.splitlines()[-1])
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    answered = found["answers"] - found["refused"]
    statuses = {"200": answered, "other": found["refused"], "0": found["lost"]}
    return {
        "client": "wrk",
        "rate": answered / found["seconds"],
        "p50": found["p50"],
        "p99": found["p99"],
        "worst": found["worst"],
        "statuses": {name: count for name, count in statuses.items() if count},
        "client_cpu": used / found["seconds"],
    }


def allow_connections() -> None:
    """Let this process open as many connections as the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Load a server as the task says and print what came of it."""
    allow_connections()
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    requests = read_requests(Path(task["requests"]))
    if "rate" in task:
        work = open_loop(task["port"], requests, task["rate"], task["seconds"])
    else:
        work = closed_loop(task["port"], requests, task["connections"], task["seconds"])
    print(json.dumps(run(work)))


if __name__ == "__main__":
    main()
