"""Servers for benchmarks: started, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

import opsin
from benchmarks.load_client import Connection, http_request, json_body
from opsin.runtime.classifier import Classifier

_HERE: Final = Path(__file__).parent

#: The peers' own environment (benchmarks/requirements-peers.txt).
PEERS: Final = Path(".venv-peers/bin/python")
#: Packages that each peer needs, whatever it is measured at.
_NEEDS: Final = {
    "keras-tensorflow": ("keras", "tensorflow"),
    "keras-torch": ("keras", "torch"),
    "keras-jax": ("keras", "jax"),
    "pytorch": ("torch",),
    "fastapi": ("torch", "fastapi", "uvicorn"),
    "litserve": ("torch", "litserve"),
}


def _raw(port: int, image: bytes) -> bytes:
    return http_request(port, image)


def _json(port: int, image: bytes) -> bytes:
    return http_request(port, json_body(image), "application/json")


@dataclass(frozen=True)
class Contender:
    """A server that answers ``POST /predict``.

    Args:
        name: What the table calls it.
        command: Returns what starts it on a port.
        request: Makes the HTTP request for an image on a port, in the form that its own
            documentation recommends.
        settings: What was chosen for it.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    request: Callable[[int, bytes], bytes] = _raw
    settings: dict[str, Any] = field(default_factory=dict)

    def requests(self, port: int, images: Sequence[bytes]) -> list[bytes]:
        """Return whole HTTP requests for images."""
        return [self.request(port, image) for image in images]


def ours(model: Path, *words: str) -> Contender:
    """Return `opsin serve` with further options."""
    start = [sys.executable, "-m", "opsin", "serve", str(model), *words]
    return Contender("opsin", lambda port: [*start, "--port", str(port)])


def peer(kind: str, python: Path, folder: Path, settings: dict[str, Any]) -> Contender:
    """Return a server of benchmarks/serving_peers.py."""
    words = [str(python), "-m", "benchmarks.serving_peers", kind, str(folder)]
    return Contender(
        kind,
        lambda port: [*words, str(port), json.dumps(settings)],
        # Images as base64 in JSON are how LitServe's guides send them.
        _json if kind == "litserve" else _raw,
        settings,
    )


#: What is tried for each peer before the measurement; the fastest at 64 connections stays.
SETTINGS: Final[dict[str, list[dict[str, Any]]]] = {
    "fastapi": [
        {"workers": 1, "threads": 1},
        {"workers": 1, "threads": 2},
        {"workers": 2, "threads": 1},
        {"workers": 2, "threads": 1, "inline": True},
    ],
    "litserve": [
        {"batch": 1, "workers": 2},
        {"batch": 8, "workers": 2, "timeout": 0.01},
        {"batch": 16, "workers": 2, "timeout": 0.01},
        {"batch": 16, "workers": 2, "timeout": 0.01, "servers": 1},
        {"batch": 16, "workers": 2, "timeout": 0.01, "fast_queue": True},
        {"batch": 16, "workers": 1, "timeout": 0.01, "servers": 1},
    ],
}


@dataclass
class Running:
    """A server that has been started."""

    port: int
    process: subprocess.Popen[bytes]
    seconds: float = 0.0

    def tree(self) -> list[int]:
        """Return its process and all below it, parents before children."""
        found = [self.process.pid]
        for number in found:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{number}/task/{number}/children").read_text(encoding="ascii")
                found += map(int, text.split())
        return found

    def memory(self) -> dict[str, int]:
        """Return resident bytes of the process in front and of all behind it together."""
        sizes = [_resident(number) for number in self.tree()]
        return {"front": sizes[0], "behind": sum(sizes[1:])}

    def cpu(self) -> float:
        """Return the seconds of processor time that all its processes have taken."""
        ticks = 0
        for number in self.tree():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{number}/stat").read_text(encoding="ascii")
                # proc(5): behind the name in brackets, the 12th and 13th are utime and stime.
                ticks += sum(map(int, text.rpartition(")")[2].split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")


def _resident(process: int) -> int:
    with contextlib.suppress(OSError):
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


@contextlib.contextmanager
def running(contender: Contender, image: bytes) -> Iterator[Running]:
    """Start a server, wait until it answers, and end all its processes in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            contender.command(port),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            _wait(process, contender.request(port, image), port, contender.name, said)
            yield Running(port, process, time.perf_counter() - began)
        finally:
            _end(process)


def _wait(
    process: subprocess.Popen[bytes], request: bytes, port: int, name: str, said: Any
) -> None:
    """Wait until a server answers, 120 s at most."""
    until = time.monotonic() + 120

    async def answered() -> int:
        connection = Connection(port)
        reply = await connection.ask(request)
        connection.close()
        return reply.status

    while (status := asyncio.run(answered())) != 200:
        if process.poll() is not None or time.monotonic() > until:
            said.seek(0)
            text = said.read().decode("utf-8", "replace")
            sys.exit(f"{name} does not answer ({status}); the end of what it said:\n{text[-3000:]}")
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    for by in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, by)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            continue
        if by is signal.SIGTERM:
            time.sleep(0.5)  # workers of some servers outlive their parent for a moment


def write_network(classifier: Classifier, folder: Path) -> None:
    """Write a `resnet` in the form that benchmarks/answering_peers.py makes its networks of."""
    graph = onnx.load_model_from_string(classifier.path.read_bytes()).graph
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    names = [output for node in graph.node for output in node.output]
    if "whiten.weight" not in weights:
        sys.exit(f"expected a resnet; received {classifier.metadata.model}. Train one.")
    stages: list[tuple[int, bool]] = []
    while (name := f"stage{len(stages) + 1}") + ".conv.weight" in weights:
        stages.append((len(weights[f"{name}.conv.weight"]), f"{name}.pool" in names))
    like = classifier.metadata.preparation
    description = {
        "classes": classifier.classes,
        "height": like.height,
        "width": like.width,
        "channels": like.channels,
        "stages": stages,
        "activation": next(n.partition("_")[2] for n in names if n.startswith("whiten_")),
        "temperature": float(weights.get("temperature", np.float32(1))),
    }
    (folder / "network.json").write_text(json.dumps(description), encoding="utf-8")
    np.savez(folder / "weights.npz", allow_pickle=False, **weights)


def make_peers(python: Path, classifier: Classifier, folder: Path) -> None:
    """Write the network in the forms of those peers that are installed."""
    write_network(classifier, folder)
    script = str(_HERE / "answering_peers.py")
    done = subprocess.run(
        [str(python), script, "make", str(folder)],
        check=False,
        capture_output=True,
        text=True,
        env=peers_environment(folder),
    )
    if done.returncode:
        sys.exit(f"the peers' networks could not be made:\n{done.stderr[-3000:]}")


@dataclass(frozen=True)
class Peers:
    """What can be compared with on this machine.

    Args:
        python: The Python that runs them: of the peers' environment or, where there is none, ours.
        versions: Of the packages that are installed there.
    """

    python: Path
    versions: dict[str, str]

    @classmethod
    def found(cls, python: Path) -> Peers:
        """Ask a Python for its packages; where it does not exist, the one that runs this."""
        if not python.is_file():
            _say(f"{python} is not there; benchmarks/requirements-peers.txt says how to make it")
            python = Path(sys.executable)
        code = """
import importlib.metadata, json
names = {d.name.replace("_", "-"): d.version for d in importlib.metadata.distributions()}
print(json.dumps(names))
"""
        listed = subprocess.run(
            [str(python), "-c", code], check=True, capture_output=True, text=True
        )
        versions: dict[str, str] = json.loads(listed.stdout)
        if "tensorflow-cpu" in versions:
            versions.setdefault("tensorflow", versions["tensorflow-cpu"])
        wanted = ("jax", "pillow", *itertools.chain(*_NEEDS.values()))
        return cls(python, {name: versions[name] for name in wanted if name in versions})

    def installed(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the peers that can run, and say which cannot."""
        lacking = {
            name: [package for package in _NEEDS[name] if package not in self.versions]
            for name in names
        }
        for name, packages in lacking.items():
            if packages:
                _say(f"{name} is not measured: {' and '.join(packages)} not installed")
        return tuple(name for name, packages in lacking.items() if not packages)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def peers_environment(folder: Path, backend: str = "tensorflow") -> dict[str, str]:
    """Return an environment without a GPU, in which nobody leaves settings in the user's home."""
    return os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "KERAS_HOME": str(folder),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": backend,
    }


def small_resnet(runs: Path) -> Path:
    """Train a `resnet` on the digits, where no run is given."""
    return opsin.train("digits", model="resnet", epochs=1, runs=runs, quiet=True).path
