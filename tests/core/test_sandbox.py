"""A process that may die, and what its owner sees of that."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from opsin.core.child_process import Header
from opsin.core.errors import ImageError, SandboxError
from opsin.core.platform import limit_computing
from opsin.core.sandbox import Sandbox

MEMORY = 64 << 20
HERE = "tests.core.test_sandbox:misbehave"


def misbehave(header: Header, body: bytes) -> tuple[Header, Sequence[bytes]]:
    match header["do"]:
        case "loop":
            while True:
                pass
        case "grow":
            return {"size": len(bytearray(header["bytes"]))}, []
        case "compute":
            limit_computing(0.2)
            while True:
                pass
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "refuse":
            raise ImageError("it is none", "Leave it out.")
        case "print":
            print("between two frames", flush=True)
        case "write":
            try:
                Path(header["path"]).write_text("outside", encoding="utf-8")
            except OSError as error:
                return {"refused": error.strerror}, []
    return {"pid": os.getpid()}, [body]


@pytest.fixture(autouse=True)
def _find_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)


@pytest.fixture
def sandbox() -> object:
    with Sandbox(HERE, seconds=1.5, memory=MEMORY) as kept:
        yield kept


def test_the_process_is_used_again_whatever_was_asked_of_it(sandbox: Sandbox) -> None:
    first, body = sandbox.call({"do": "answer"}, b"\0" * 3_000_000)
    assert body == b"\0" * 3_000_000
    assert first["pid"] != os.getpid()
    assert sandbox.call({"do": "print"})[0] == first
    assert sandbox.call({"do": "grow", "bytes": 32 << 20})[0] == {"size": 32 << 20}
    with pytest.raises(ImageError, match="it is none"):
        sandbox.call({"do": "refuse"})


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"do": "loop"}, "too long to compute"),
        ({"do": "grow", "bytes": 512 << 20}, "it takes more"),
        ({"do": "crash"}, "SIGSEGV"),
    ],
)
def test_what_kills_it_costs_one_answer(sandbox: Sandbox, header: Header, reason: str) -> None:
    with pytest.raises(SandboxError, match=reason):
        sandbox.call(header)
    assert sandbox.call({"do": "answer"}, b"next")[1] == b"next"


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such timer")
def test_what_computes_for_long_is_ended_however_busy_the_machine_is() -> None:
    with (
        Sandbox(HERE, seconds=60, memory=MEMORY) as patient,
        pytest.raises(SandboxError, match="too long to compute"),
    ):
        patient.call({"do": "compute"})


def test_nothing_is_written(sandbox: Sandbox, tmp_path: Path) -> None:
    said, _ = sandbox.call({"do": "write", "path": str(tmp_path / "made")})
    assert said == {"refused": "File too large"}
    assert not (tmp_path / "made").read_bytes()


def test_several_threads_at_once() -> None:
    with (
        Sandbox(HERE, seconds=5, memory=MEMORY, processes=2) as sandbox,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        sent = [str(number).encode() * 1000 for number in range(40)]
        got = list(pool.map(lambda body: sandbox.call({"do": "answer"}, body), sent))
    assert [body for _, body in got] == sent
    assert len({header["pid"] for header, _ in got}) <= 2


def test_it_does_not_outlive_an_owner_that_is_killed() -> None:
    code = (
        "import threading, time; from opsin.core.sandbox import Sandbox\n"
        f"sandbox = Sandbox({HERE!r}, seconds=60, memory={MEMORY})\n"
        "print(sandbox.call({'do': 'answer'})[0]['pid'], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    end = time.monotonic() + 30
    while _runs(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
