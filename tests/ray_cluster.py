"""Ray nodes on this machine, in a network namespace that no other machine can reach."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

_ADDRESS: Final = "127.0.0.1"
_CLIENT_PORT: Final = 10001
# Bytes of a node's object store, which Ray would make a third of the machine's memory.
_STORE: Final = 80_000_000
# Raises the loopback of a new namespace, which `ip` would do, and holds the namespace.
_HOLD: Final = f"""
import fcntl, socket, struct, sys
with socket.socket() as any:
    fcntl.ioctl(any, 0x8914, {struct.pack("16sh14s", b"lo", 0x1 | 0x40, b"")!r})
print("up", flush=True)
sys.stdin.read()
"""


def why_not() -> str | None:
    """Return why there can be no cluster here; ``None``: there can."""
    try:
        import ray  # noqa: F401
    except ImportError:
        return "Ray is not installed (make .venv-ray/ready)"
    done = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "no network of its own can be made (needs root)"


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> bool:
    """Wait for something that a process brings about; return whether it did before it ended."""
    while not (met := condition()) and process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return met


class RayCluster:
    """A head and further nodes; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._count = 0

    def __enter__(self) -> RayCluster:
        with self._stack:
            self._holder = self._stack.enter_context(
                subprocess.Popen(
                    ["unshare", "--net", sys.executable, "-c", _HOLD],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            self._stack.callback(self._holder.kill)
            assert self._holder.stdout is not None
            assert self._holder.stdout.readline() == b"up\n"
            # Ray refuses the address of any cluster among the system's processes, whatever the
            # network: another run of these tests has another port.
            self._port = 20_000 + self._holder.pid % 10_000
            self._stack.callback(self._stop)
            ports = [f"--port={self._port}", f"--ray-client-server-port={_CLIENT_PORT}"]
            words = [f"--node-ip-address={_ADDRESS}", "--num-cpus=0", "--include-dashboard=false"]
            self._start_node(["--head", *ports, *words])
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def client_address(self) -> str:
        """What ``--on`` takes for a program that is no node itself."""
        return f"ray://{_ADDRESS}:{_CLIENT_PORT}"

    def start(self, words: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        return subprocess.Popen(
            [*self._inside, sys.executable, "-m", *words], env=self._environment(), **options
        )

    def run(
        self, words: Sequence[str | Path], status: int = 0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, which has this exit status."""
        process = self.start(words, **options)
        out, err = process.communicate(timeout=3000)
        assert process.returncode == status, err
        return subprocess.CompletedProcess([], process.returncode, out, err)

    def add(self, cpus: int = 1, *, hide: Path | None = None, source: Path | None = None) -> None:
        words = [f"--address={_ADDRESS}:{self._port}", f"--num-cpus={cpus}"]
        self._start_node(words, hide=hide, source=source)

    def kill(self, number: int) -> None:
        self._end(self._nodes.pop(1 + number))

    def __len__(self) -> int:
        return len(self._nodes) - 1

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]

    def _environment(self, source: Path | None = None) -> dict[str, str]:
        own = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",  # a token in the user's home would shut the nodes out
            "RAY_ADDRESS": f"{_ADDRESS}:{self._port}",
            "RAY_health_check_period_ms": "500",
            "OMP_NUM_THREADS": "1",
        }
        if source is not None:
            own["PYTHONPATH"] = str(source)
        return os.environ | own

    def _start_node(
        self, words: Sequence[str], *, hide: Path | None = None, source: Path | None = None
    ) -> None:
        self._count += 1
        given = [f"--object-store-memory={_STORE}", f"--temp-dir={self._folder}", "--block"]
        start = ["ray.scripts.scripts", "start", *words, "--disable-usage-stats", *given]
        ray = [*self._inside, sys.executable, "-m", *start]
        if hide is not None:
            script = f'mount -t tmpfs none "{hide}" && exec "$@"'
            ray = ["unshare", "--mount", "sh", "-c", script, "sh", *ray]
        environment = self._environment(source)
        del environment["RAY_ADDRESS"]  # a head would refuse it
        log = self._folder.parent / f"node-{self._count}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(
                ray, env=environment, stdout=file, stderr=file, start_new_session=True
            )
        self._nodes.append(node)
        while b"--block" not in log.read_bytes():  # the last thing that it says
            assert node.poll() is None, log.read_text()
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(0.1)

    def _stop(self) -> None:
        for node in self._nodes:
            self._end(node)

    def _end(self, node: subprocess.Popen[bytes]) -> None:
        for process in [*_descendants(node.pid), node.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        node.wait()


def _descendants(pid: int) -> Iterator[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with contextlib.suppress(OSError):
        for child in map(int, children.read_text().split()):
            yield from _descendants(child)
            yield child
