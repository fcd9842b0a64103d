"""`opsin serve` as a process of its own, and a client that asks much at once."""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

WORKER = b"opsin.server.worker"
START = (sys.executable, "-W", "error", "-m", "opsin", "serve")


class Server:
    def __init__(self, process: subprocess.Popen[bytes], url: str, errors: IO[bytes]) -> None:
        self.process, self.url, self._errors = process, url, errors
        self.port = int(url.rpartition(":")[2])

    def workers(self) -> list[int]:
        front = self.process.pid
        children = Path(f"/proc/{front}/task/{front}/children").read_text(encoding="ascii")
        found = []
        for number in map(int, children.split()):
            with contextlib.suppress(OSError):
                if WORKER in Path(f"/proc/{number}/cmdline").read_bytes():
                    found.append(number)
        return found

    def said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")

    def figure(self, name: str) -> float:
        """Return one of its figures for Prometheus; what has not happened yet is 0."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        found = [line for line in lines if line.startswith(f"{name} ")]
        return float(found[0].split()[-1]) if found else 0.0

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        workers = self.workers()
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGCONT)

    def stop(self, *by: signal.Signals) -> int:
        for each in by or (signal.SIGTERM,):
            self.process.send_signal(each)
            time.sleep(0.2)  # two at once would be one
        return self.process.wait(60)


@contextlib.contextmanager
def serving(*words: str | Path, folder: Path) -> Iterator[Server]:
    """Run `opsin serve` with these words on a port that is free."""
    command = [*START, *map(str, words), "--port", "0", "--json"]
    with (folder / "stderr").open("w+b") as errors:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, (folder / "stderr").read_text()
            url = json.loads(line)["url"].rstrip("/")
            yield Server(process, url, errors)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()


def image(number: int, size: int = 8) -> bytes:
    """Return a PNG that no other number has: the number's bits as black and white fields."""
    bits = [number >> place & 1 for place in range(16)]
    pixels = np.kron(np.array(bits, np.uint8).reshape(4, 4) * 255, np.ones((2, 2), np.uint8))
    return encoded(np.kron(pixels, np.ones((size // 8, size // 8), np.uint8)))


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def request(port: int, body: bytes, *, path: str = "/predict", kind: str = "image/png") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask_all(
    url: str, contents: Sequence[bytes], connections: int = 64, *, path: str = "/predict"
) -> list[httpx.Response]:
    """Send images at once; the status is 0 where a connection ended without an answer."""

    places = asyncio.Semaphore(connections)

    async def one(client: httpx.AsyncClient, content: bytes) -> httpx.Response:
        async with places:  # those that wait in the client's own line cost it much
            try:
                return await client.post(path, content=content)
            except httpx.TransportError:
                return httpx.Response(0)

    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            return await asyncio.gather(*(one(client, content) for content in contents))

    return asyncio.run(together())


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come to hold"
        time.sleep(0.02)
