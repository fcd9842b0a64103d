"""Differences between Linux, macOS and Windows; no other module asks for the platform."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl
    import resource

#: Whether a child process can be given an open socket, and the lock on an open file.
CHILDREN_INHERIT: Final = sys.platform != "win32"
#: Whether names can be looked up relative to an open folder.
FOLDER_HANDLES: Final = {os.open, os.stat, os.unlink, os.mkdir, os.rmdir, os.link, os.rename} <= (
    os.supports_dir_fd
)
#: Characters forbidden in names here; `opsin.core.files` is for every system.
NOT_IN_NAMES: Final = '/\\:*?"<>|' if sys.platform == "win32" else "/\\"
#: Flags of `os.open`: never wait for the other end of a pipe, and read bytes as they are.
NO_WAITING: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
#: Flag of `os.open`: refuse a name that is a symbolic link.
NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final = getattr(os, "O_DIRECTORY", 0)

_DEVICES: Final = r"auto|cpu|coreml|mps|(cuda|tensorrt|directml|openvino)(:[0-9]+)?"
#: What a device may be.
DEVICE_WORDS: Final = (
    "auto, cpu, cuda, tensorrt, coreml, mps, directml or openvino, with a number where there are "
    "several (cuda:1)"
)


def known_device(device: str) -> str:
    """Check a device that the user names."""
    if not re.fullmatch(_DEVICES, device):
        raise ValueError(f"must be {DEVICE_WORDS}")
    return device


def open_folder(path: str | os.PathLike[str], *, within: int | None = None) -> int:
    """Open a folder; needs `FOLDER_HANDLES`."""
    no_link = 0 if within is None else NO_LINK  # a handle may be 0
    return os.open(path, os.O_RDONLY | _FOLDER | no_link, dir_fd=within)


def hard_link(name: str, new: str, *, within: int | None, into: int | None) -> None:
    """Link a file under a second name, which must be free."""
    os.link(name, new, src_dir_fd=within, dst_dir_fd=into, follow_symlinks=not FOLDER_HANDLES)


def sync(path: str | os.PathLike[str]) -> None:
    """Flush a file or a folder to the disk; Windows flushes folders itself."""
    folder = os.path.isdir(path)  # noqa: PTH112  no Path for each of many
    if folder and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all() -> None:
    """Flush all writes to the disk; not available on Windows."""
    if sys.platform != "win32":
        os.sync()


def is_private(status: os.stat_result) -> bool:
    """Whether only its owner may read a file; always true on Windows."""
    return sys.platform == "win32" or not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def only_we_write(status: os.stat_result) -> bool:
    """Whether a file is this user's and writable by no one else; true on Windows."""
    if sys.platform == "win32":
        return True
    shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.getuid() and not stat.S_ISLNK(status.st_mode) and not shared


def is_our_connection(client: int, server: int, system: Path = Path("/")) -> bool:
    """Whether a connection between two ports here is our account's or root's, where that shows."""
    accounts = set()
    for table in ("tcp", "tcp6"):
        for line in _text(system / "proc/net" / table).splitlines()[1:]:
            fields = line.split()
            if [int(end.rpartition(":")[2], 16) for end in fields[1:3]] == [client, server]:
                accounts.add(int(fields[7]))
    return not accounts or accounts <= {0, os.getuid()}


@contextlib.contextmanager
def inheritable_lock(path: Path) -> Iterator[int]:
    """Lock a file by a handle that a child can inherit; needs ``CHILDREN_INHERIT``."""
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, "A lock belongs to one process on Windows", str(path))
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the `inheritable_lock` of a file."""
    if path.exists():
        try:
            with inheritable_lock(path):
                return False
        except OSError as error:
            return isinstance(error, BlockingIOError)
    return False


def process_exists(pid: int) -> bool:
    """Whether a process with this id exists, of any user."""
    import psutil  # noqa: PLC0415  0.04 s

    return psutil.pid_exists(pid)


def interrupt(pid: int) -> None:
    """Ask a process to stop, as Ctrl-C does."""
    if sys.platform == "win32":
        raise PermissionError(errno.EPERM, "Windows can only end another process")
    os.kill(pid, signal.SIGINT)


def end_group(pid: int) -> None:
    """Kill a process group by its leader."""
    if sys.platform == "win32":
        import psutil  # noqa: PLC0415  0.04 s

        with contextlib.suppress(psutil.Error):
            leader = psutil.Process(pid)
            for process in (*leader.children(recursive=True), leader):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM, also in processes started in the block."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prefer_as_oom_victim() -> None:
    """Let the system kill this process before its parent if memory runs out (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def limit_computing(seconds: float) -> None:
    """End this process after so much computing time; 0 removes the limit."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def lower_priority(pid: int = 0) -> None:
    """Lower the priority of a process, or of this one."""
    import psutil  # noqa: PLC0415  0.04 s

    with contextlib.suppress(psutil.Error, OSError):
        # Windows has classes in place of numbers.
        psutil.Process(pid or None).nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", 5))


def limit_process(memory: int) -> None:
    """Limit this process's further memory; forbid writing files and core dumps."""
    if sys.platform == "win32":
        return
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    limit_memory(memory)
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (soft, soft))  # for good


def limit_memory(memory: int) -> None:
    """Limit this process's further memory; may be called again."""
    present = _fields(Path("/proc/self/status")).get("VmSize")
    if sys.platform == "win32" or present is None:  # other systems have no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = 1024 * present + memory
    allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, most))


def allow_open_files(wanted: int) -> None:
    """Raise the limit on open files to ``wanted``, or to what the system grants."""
    if sys.platform == "win32":  # it has no such limit on sockets
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < granted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))


def reuse_address(listener: socket.socket) -> None:
    """Let a port be reused right after the previous server; Windows does so anyway."""
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def return_memory() -> None:
    """Give free memory back to the system (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def cores() -> int:
    """The number of cores this process may use; containers may restrict it."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def processor_name() -> str:
    """The processor's model name, or at least its architecture."""
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine() or "a processor without a name"


def memory_left(system: Path = Path("/")) -> int:
    """The bytes that the system, this process's limit and its control groups (Linux) leave it."""
    import psutil  # noqa: PLC0415  0.04 s

    left = [int(psutil.virtual_memory().available)]
    if sys.platform != "win32":
        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            left.append(soft - int(psutil.Process().memory_info().vms))
    for line in _text(system / "proc/self/cgroup").splitlines():
        if line.startswith("0::/"):
            group = system / "sys/fs/cgroup" / line.removeprefix("0::/")
            for folder in (group, *group.parents):
                most = _text(folder / "memory.max").strip()
                used = _text(folder / "memory.current").strip()
                if most.isdigit() and used.isdigit():
                    idle = _fields(folder / "memory.stat").get("inactive_file", 0)
                    left.append(int(most) - int(used) + idle)
    return max(0, min(left))


def keep_freed_memory() -> None:
    """Let the C library reuse large freed blocks."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(-1, 2**31 - 1)  # glibc's M_TRIM_THRESHOLD
        library.mallopt(-3, 2**30) or library.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD


def _fields(file: Path) -> dict[str, int]:
    lines = (line.replace(":", " ").split() for line in _text(file).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
