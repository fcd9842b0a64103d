"""Commands as forks of a process that has loaded the large libraries, and nothing of Opsin.

Loading them takes most of a short command's time. That they are loaded where they are needed, and
nowhere else, is asked by tests that start Python anew.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NoReturn

#: What the larger commands load.
LIBRARIES: Final = (
    "captum.attr", "cleanlab.filter", "filelock", "jinja2", "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg", "matplotlib.figure", "matplotlib.font_manager", "numpy.ma",
    "onnx.reference", "onnxruntime.quantization", "PIL.AvifImagePlugin", "PIL.ImageDraw",
    "PIL.ImageOps", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.TiffImagePlugin",
    "PIL.WebPImagePlugin", "platformdirs", "pydantic.main", "rich.progress", "safetensors.torch",
    "scipy.optimize", "scipy.special", "scipy.stats", "simplejpeg", "sklearn.datasets",
    "sklearn.ensemble", "sklearn.linear_model", "sklearn.metrics", "sklearn.model_selection",
    "sklearn.neighbors", "sklearn.pipeline", "sklearn.svm", "torch._dynamo", "torch.nn.functional",
    "typer",
)  # fmt: skip


#: An environment with this trains without figures and page (`_undrawn` in conftest.py).
UNDRAWN: Final = "OPSIN_TESTS_UNDRAWN"


class Warm:
    """Runs commands; where the system cannot fork safely, each is a process from the start."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def run(
        self, words: Sequence[str], *, cwd: Path, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run a command without input, as ``python -W error -m opsin`` does."""
        if sys.platform != "linux":
            command = [sys.executable, "-W", "error", "-m", "opsin", *words]
            options: dict[str, Any] = {"text": True, "capture_output": True}
            return subprocess.run(command, check=False, cwd=cwd, timeout=timeout, **options)
        with self.start(words, cwd=cwd) as begun:
            return begun.wait(timeout)

    @contextlib.contextmanager
    def start(self, words: Sequence[str], *, cwd: Path) -> Iterator[Begun]:
        """Start a command that may get signals (Linux); no other runs until the block ends."""
        channel = self._open()
        task = {"words": list(words), "cwd": str(cwd), "environment": dict(os.environ)}
        with (
            Path(os.devnull).open("rb") as nothing,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            streams = [file.fileno() for file in (nothing, out, err)]
            socket.send_fds(channel, [json.dumps(task).encode() + b"\n"], streams)
            begun = Begun(words, channel, int(_line(channel)), (out, err))
            try:
                yield begun
            finally:
                begun.kill()

    def _open(self) -> socket.socket:
        if self._channel is None:
            self._channel, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-W", "error", __file__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
        return self._channel

    def close(self) -> None:
        if self._channel is not None and self._process is not None:
            self._channel.close()
            self._process.wait(60)


class Begun:
    def __init__(
        self, words: Sequence[str], channel: socket.socket, pid: int, said: Sequence[IO[bytes]]
    ) -> None:
        self.pid = pid
        self._words, self._channel, self._said = [*words], channel, said
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None and select.select([self._channel], [], [], 0)[0]:
            self._status = int(_line(self._channel))
        return self._status

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            # It may end in this moment.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        if self._status is None:
            self._status = int(_line(self._channel))

    def wait(self, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        if self._status is None and not select.select([self._channel], [], [], timeout)[0]:
            self.kill()
            raise subprocess.TimeoutExpired(self._words, timeout)
        self.poll()
        assert self._status is not None
        texts = []
        for file in self._said:
            file.seek(0)
            texts.append(file.read().decode())
        return subprocess.CompletedProcess(self._words, self._status, *texts)


def _line(channel: socket.socket) -> bytes:
    read = b""
    while not read.endswith(b"\n"):
        piece = channel.recv(4096)
        if not piece:
            raise RuntimeError("the process that forks commands is gone")
        read += piece
    return read


def _serve(channel: socket.socket) -> None:
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # the runtime half has fewer
            importlib.import_module(name)
    os.fsync = lambda fd: None  # as in conftest.py
    # What was loaded stays shared: no fork's collector touches it.
    gc.collect()
    gc.freeze()
    while True:
        content, streams, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not content:
            return
        content += b"" if content.endswith(b"\n") else _line(channel)
        pid = os.fork()
        if not pid:
            channel.close()
            _become(json.loads(content), streams)
        for stream in streams:
            os.close(stream)
        channel.sendall(b"%d\n" % pid)
        _, ended = os.waitpid(pid, 0)
        channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(ended))


def _become(task: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    """Do what a process does that was started for a command, to its end."""
    status: object = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(task["cwd"])
        os.environ.clear()
        os.environ.update(task["environment"])
        sys.argv = ["opsin", *task["words"]]
        sys.path[0] = task["cwd"]
        if UNDRAWN in os.environ:
            report = importlib.import_module("opsin.commands.report")
            report.draw_run = lambda *_, **__: None  # type: ignore[attr-defined]
        runpy.run_module("opsin", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
    if not isinstance(status, int):
        sys.stderr.write(f"{status}\n")
        status = 1
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for text in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            text.flush()
    os._exit(status)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as own:
        _serve(own)
