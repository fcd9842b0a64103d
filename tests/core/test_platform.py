"""The one module that knows the systems apart; and the package where none of Unix is there."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from opsin.core.child_process import exit_reason
from opsin.core.platform import end_group, inheritable_lock, is_locked, memory_left, process_exists
from tests.processes import python

unix = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix")


@unix
def test_a_group_ends_with_what_it_started() -> None:
    script = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); "
        "print(child.pid, flush=True); child.wait()"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True
    )
    assert leader.stdout is not None
    with leader.stdout as output:
        assert int(output.readline()) > 0
        end_group(leader.pid)
        assert output.read() == b""  # the pipe closes once both have ended
    assert exit_reason(leader.wait()) == signal.Signals.SIGKILL.name
    end_group(leader.pid)  # and once more, where nothing is left
    with pytest.raises(ProcessLookupError):
        os.kill(leader.pid, 0)
    assert not process_exists(leader.pid)


@unix
def test_links_are_not_followed_from_handle_0(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    script = (
        "import sys; from opsin.core.platform import open_folder\n"
        "handle = open_folder(sys.argv[1])\n"
        "print(handle)\n"
        "open_folder('elsewhere', within=handle)\n"
        "try: open_folder('link', within=handle)\n"
        "except NotADirectoryError: print('refused')"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" <&-', sys.executable, "-c", script, str(tmp_path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout == "0\nrefused\n"


@unix
def test_a_lock_is_the_childs_until_it_ends(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_locked(lock)
    with inheritable_lock(lock) as handle:
        assert is_locked(lock)
        with pytest.raises(BlockingIOError), inheritable_lock(lock):
            pass
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"],
            stdin=subprocess.PIPE,
            pass_fds=(handle,),
        )
    assert is_locked(lock)  # though this process closed it
    child.communicate()
    assert not is_locked(lock)


def test_a_containers_limit(tmp_path: Path) -> None:
    mount = "sys/fs/cgroup"
    files = {
        "proc/self/cgroup": "0::/box/job:1\n",
        f"{mount}/box/job:1/memory.max": "max\n",
        f"{mount}/box/job:1/memory.current": "500000000\n",
        f"{mount}/box/memory.max": "2000000000\n",
        f"{mount}/box/memory.current": "1500000000\n",
        f"{mount}/box/memory.stat": "anon 900000000\nfile 600000000\ninactive_file 400000000\n",
    }
    assert 900_000_000 < memory_left(tmp_path) < 1 << 50  # a system without Linux's files
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_left(tmp_path) == 900_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others cannot limit it")
def test_a_limit_of_the_process_is_known() -> None:
    code = "from opsin.core.platform import *; memory_left(); limit_memory(300_000_000)"
    code += "; print(memory_left())"
    done = python("-c", code)
    assert 200_000_000 < int(done.stdout) <= 300_000_000


# As on Windows, as far as Linux can act it: what Python lacks there is gone before Opsin comes.
# The lock of filelock's stays the one that it has here.
_AS_ON_WINDOWS = """
import asyncio, concurrent.futures, multiprocessing, os, pathlib, shutil, signal, ssl, subprocess
import sys, tempfile, urllib.request, zipfile, zoneinfo
import filelock, numpy, onnxruntime, platformdirs, psutil, pydantic.main, rich, simplejpeg, typer
import PIL.Image, PIL.JpegImagePlugin, PIL.PngImagePlugin

for missing in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[missing] = None
for name in ("getuid", "geteuid", "killpg", "nice", "sync", "sysconf", "getloadavg", "fork",
             "sched_getaffinity", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC"):
    delattr(os, name)
for name in ("setitimer", "ITIMER_REAL", "pthread_sigmask", "SIGKILL"):
    delattr(signal, name)
os.supports_dir_fd = set()
sys.platform = "win32"
"""


@unix
def test_a_folder_is_read_and_a_run_is_kept_without_what_unix_has(tmp_path: Path) -> None:
    script = """
import opsin
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.files import ConfinedDir
from opsin.core.platform import (
    is_locked, limit_computing, limit_memory, limit_process, memory_left, prefer_as_oom_victim,
    process_exists, return_memory,
)
from opsin.core.storage import exclusive, publish_directory, scratch_directory, write_json

prefer_as_oom_victim(), limit_process(1), limit_memory(1), limit_computing(1), return_memory()
assert memory_left() > 0 and process_exists(os.getpid())
root = pathlib.Path(sys.argv[1])
for label in ("cat", "Dog"):
    (root / "pets" / label).mkdir(parents=True)
    for number in range(6):
        pixels = numpy.random.default_rng(number + len(label)).integers(0, 255, (9, 9, 3), "uint8")
        PIL.Image.fromarray(pixels).save(root / "pets" / label / f"{number}{label}.png")
table = "path,label\\r\\n" + "".join(f"pets\\\\cat\\\\{n}cat.png,cat\\r\\n" for n in range(6))
table += "".join(f"pets\\\\Dog\\\\{n}Dog.png,Dog\\r\\n" for n in range(6))
(root / "pets.csv").write_bytes(table.encode())
folder, table = opsin.load(root / "pets"), opsin.load(root / "pets.csv")
assert folder.classes == table.classes and len(folder) == len(table) == 12
assert (numpy.sort(folder.digests, axis=0) == numpy.sort(table.digests, axis=0)).all()

run = RunDirectory.create(root / "runs", "con: a*b?.")
assert not set('<>:"/\\\\|?*') & set(run.path.name) and not run.path.name.endswith((" ", "."))
with run.hold():
    pass
write_json(run.path / "x.json", {})
with ConfinedDir(root) as closed, closed.folder("pets") as inner:
    assert inner.has("cat") and not inner.has("bird")
    with closed.open("new", "xb") as file:
        file.write(b"1")
    closed.link("new", inner, "second")
    closed.rename("new", inner, "third")
assert not is_locked(root / "none")
"""
    env = os.environ | {"OPSIN_CACHE": str(tmp_path / "cache")}
    python("-c", _AS_ON_WINDOWS + script, tmp_path, env=env)
