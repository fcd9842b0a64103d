"""What Linux, macOS and Windows do in different ways; no other module asks which it runs on."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
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
#: Whether a folder can be opened, and names looked up in it wherever it lies by then.
FOLDER_HANDLES: Final = {os.open, os.stat, os.unlink, os.mkdir, os.rmdir, os.link, os.rename} <= (
    os.supports_dir_fd
)
#: Characters that no name here may hold; `opsin.core.file_names` makes names for every system.
NOT_IN_NAMES: Final = '/\\:*?"<>|' if sys.platform == "win32" else "/\\"
#: Flags of `os.open`: never wait for the other end of a pipe, and read bytes as they are.
NO_WAITING: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
#: Flag of `os.open`: refuse a name that is a symbolic link.
NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_FOLDER: Final = getattr(os, "O_DIRECTORY", 0)

#: Where to compute, as a pattern: a word, some with the number of a device.
DEVICES: Final = r"auto|cpu|coreml|mps|(cuda|tensorrt|directml|openvino)(:[0-9]+)?"
#: The same in words.
DEVICE_WORDS: Final = (
    "auto, cpu, cuda, tensorrt, coreml or mps, directml, openvino; perhaps a number: cuda:1"
)


def open_folder(place: str | os.PathLike[str], *, within: int | None = None) -> int:
    """Open a folder where there are `FOLDER_HANDLES`."""
    no_link = 0 if within is None else NO_LINK  # a handle may be 0
    return os.open(place, os.O_RDONLY | _FOLDER | no_link, dir_fd=within)


def hard_link(name: str, new: str, *, within: int | None, into: int | None) -> None:
    """Give a file a second name, which must be free."""
    os.link(name, new, src_dir_fd=within, dst_dir_fd=into, follow_symlinks=not FOLDER_HANDLES)


def sync(path: str | os.PathLike[str]) -> None:
    """Bring a file, or the names in a folder, to the disk; Windows does the latter by itself."""
    folder = os.path.isdir(path)  # noqa: PTH112  no Path for each of many
    if folder and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all() -> None:
    """Bring all that was written to the disk; Windows lets no program ask for that."""
    if sys.platform != "win32":
        os.sync()


def is_private(found: os.stat_result) -> bool:
    """Tell whether only its owner may read a file; Windows' rights are not asked."""
    return sys.platform == "win32" or not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def only_we_write(found: os.stat_result) -> bool:
    """Tell whether a file is this user's and no one else may change it; true on Windows."""
    if sys.platform == "win32":
        return True
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid == os.getuid() and not stat.S_ISLNK(found.st_mode) and not shared


@contextlib.contextmanager
def inheritable_lock(path: Path) -> Iterator[int]:
    """Lock a file by a handle that a child can take over, where ``CHILDREN_INHERIT``."""
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, "A lock belongs to one process on Windows", str(path))
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the `inheritable_lock` of a file."""
    if path.exists():
        try:
            with inheritable_lock(path):
                return False
        except OSError as error:
            return isinstance(error, BlockingIOError)
    return False


def process_exists(pid: int) -> bool:
    """Tell whether there is a process of this number, of any user."""
    import psutil  # noqa: PLC0415  0.04 s

    return psutil.pid_exists(pid)


def command_line(pid: int) -> str | None:
    """The command line of a process, where the system shows it."""
    import psutil  # noqa: PLC0415  0.04 s

    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
    except psutil.AccessDenied:
        return None


def interrupt(pid: int) -> None:
    """Ask a process to stop, as Ctrl-C does."""
    if sys.platform == "win32":
        raise PermissionError(errno.EPERM, "Windows can only end another process")
    os.kill(pid, signal.SIGINT)


def end_group(pid: int) -> None:
    """End a process that leads a group, and all that it started, at once."""
    if sys.platform == "win32":
        import psutil  # noqa: PLC0415  0.04 s

        with contextlib.suppress(psutil.Error):
            leader = psutil.Process(pid)
            for each in (*leader.children(recursive=True), leader):
                with contextlib.suppress(psutil.Error):
                    each.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM, in the processes that are started meanwhile, too."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prefer_as_oom_victim() -> None:
    """Have the system end this process before its parent where memory runs out (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def limit_computing(seconds: float) -> None:
    """End this process once it has computed for so long; 0 takes that back."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def lower_priority() -> None:
    """Let processes of the usual priority go before this one."""
    if sys.platform == "win32":
        import psutil  # noqa: PLC0415  0.04 s

        with contextlib.suppress(psutil.Error, OSError):
            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        return
    with contextlib.suppress(OSError):
        os.nice(5)


def limit_process(memory: int) -> None:
    """Let this process take no more memory, write no file and leave no core dump behind."""
    if sys.platform == "win32":
        return

    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    limit_memory(memory)
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (soft, soft))  # for good


def limit_memory(memory: int) -> None:
    """Let this process take no more memory from now on; the limit may be changed again."""
    present = _fields(Path("/proc/self/status")).get("VmSize")
    if sys.platform == "win32" or present is None:  # no limit on addresses holds elsewhere
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = 1024 * present + memory
    allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, most))


def allow_open_files(wanted: int) -> None:
    """Raise the number of files that may be open to ``wanted``, or what the system grants."""
    if sys.platform == "win32":  # it has no such limit on sockets
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < granted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))


def reuse_address(listener: socket.socket) -> None:
    """Let a port be taken again right after the server before; Windows does so by itself."""
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def return_memory() -> None:
    """Give free memory back to the system, where the C library keeps it (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def cores() -> int:
    """How many cores this process may use; a container may allow fewer than there are."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def processor_name() -> str:
    """The processor as its maker calls it, or at least its kind."""
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine() or "a processor without a name"


def memory_left(system: Path = Path("/")) -> int:
    """How many bytes this process may still take."""
    free = _fields(system / "proc/meminfo").get("MemAvailable")
    if free is not None:
        return max(0, min([1024 * free, *_groups_leave(system), *_limits_leave(system)]))
    import psutil  # noqa: PLC0415  0.04 s

    return int(psutil.virtual_memory().available)


def _groups_leave(system: Path) -> Iterator[int]:
    """What each control group above this process leaves (Linux, version 2)."""
    for line in _text(system / "proc/self/cgroup").splitlines():
        if line.startswith("0::/"):
            below = Path(line.removeprefix("0::/"))
            for parent in (below, *below.parents):
                folder = system / "sys/fs/cgroup" / parent
                most, used = (
                    _text(folder / name).strip() for name in ("memory.max", "memory.current")
                )
                if most.isdigit() and used.isdigit():
                    idle = _fields(folder / "memory.stat").get("inactive_file", 0)
                    yield int(most) - int(used) + idle


def _limits_leave(system: Path) -> Iterator[int]:
    """What the process's own limits leave: of addresses, and of data (Linux)."""
    if sys.platform == "win32":
        return
    used = _fields(system / "proc/self/status")
    for limit, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY and field in used:
            yield most - 1024 * used[field]


def keep_freed_memory() -> None:
    """Let the C library keep large blocks that are freed, for those that are asked for next."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(-1, 2**31 - 1)  # glibc's M_TRIM_THRESHOLD
        library.mallopt(-3, 2**30) or library.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD


def _fields(file: Path) -> dict[str, int]:
    """The lines of a file that hold a name and a whole number."""
    lines = (line.replace(":", " ").split() for line in _text(file).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
