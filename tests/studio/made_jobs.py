"""Processes that behave as verbs do, and a browser that asks once, for the studio's tests."""

import sys
import time
from collections.abc import Callable

import httpx
from fastapi import FastAPI

from opsin.studio.datasets.uploads import SentFile, Uploads
from opsin.studio.jobs.queue import Queue

#: Answers as a verb does, when its file `go` is there.
WAITS = """
import pathlib, time
while not pathlib.Path("go").exists(): time.sleep(0.01)
print('{"answer": 42}')
"""
#: Writes a run below a folder as a training does; one Ctrl-C is "end well", two "break off".
TRAINS = """
import json, os, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1]) / os.environ["OPSIN_RUN_NAME"]
(run / "checkpoints").mkdir(parents=True)
(run / "recipe.json").write_text("{}")
asked = []
def on_signal(*_):
    asked.append(1)
    if len(asked) == 1: (run / "checkpoints" / "step-1.json").write_text("{}")
    if len(asked) > 1:
        parts = {"kind": "OpsinError", "message": "Interrupted", "advice": ""}
        print(json.dumps({"error": parts}))
        sys.exit(130)
signal.signal(signal.SIGINT, on_signal)
status = {"state": "running", "pid": os.getpid(), "started": time.time(), "heartbeat": time.time()}
status |= {"doing": "2/4", "done": 5, "total": 10, "unit": "images"}
(run / "status.json").write_text(json.dumps(status))
while not asked: time.sleep(0.01)
while "evaluates" in sys.argv and not pathlib.Path("evaluated").exists(): time.sleep(0.01)
print(json.dumps({"run": str(run), "training": {"stopped": True}}))
sys.exit(130)
"""


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-S", "-c", code, *words]


def until(queue: Queue, true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    queue.tick()
    while not true():
        assert time.monotonic() < end, queue.jobs()
        time.sleep(0.02)
        queue.tick()


def put(uploads: Uploads, name: str, content: bytes, key: int, path: str = "") -> SentFile:
    """Upload a file whole, and describe it as the browser does."""
    text = f"{key:016x}"
    uploads.append(text, 0, content)
    return {"key": text, "name": name, "path": path, "size": len(content)}


async def fetch(api: FastAPI, address: str) -> httpx.Response:
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://studio") as client:
        return await client.get(address)
