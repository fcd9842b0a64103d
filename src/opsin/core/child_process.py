"""What the processes that Opsin starts share: how they start, what they may take, how they end.

The parent uses `module_command`, `child_environment`, `error_from` and `exit_reason`; the child
`take_output`, `end_first`, `limit_process`, `limit_memory` and `error_values`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

import opsin.core.errors
from opsin.core.errors import OpsinError

# Not for children: what belongs to the web framework or to a test, and the servers' token.
_PRIVATE: Final = ("NICEGUI_", "PYTEST_", "OPSIN_TOKEN")


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of Opsin's with this interpreter.

    Python's own search path applies, but never the working directory, where anybody's
    ``numpy.py`` may lie.

    Example:
        >>> module_command("opsin.core.sandbox", "5")[1:]
        ['-P', '-m', 'opsin.core.sandbox', '5']
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(*, one_thread: bool = False) -> dict[str, str]:
    """Return this process's environment without what is private to it.

    Args:
        one_thread: Whether numerical libraries may start no threads of their own, as where there
            is one process for each core.

    Example:
        >>> child_environment(one_thread=True)["OMP_NUM_THREADS"]
        '1'
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_PRIVATE)}
    if one_thread:
        kept |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # Nothing in the folder that a child works in is a module: it may hold what people upload.
    return kept | {"PYTHONSAFEPATH": "1"}


def exit_reason(status: int) -> str:
    """Name the signal that ended a process, or its exit status.

    Example:
        >>> exit_reason(-9), exit_reason(3)
        ('SIGKILL', 'status 3')
    """
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"


def end_group(pid: int) -> None:
    """End a process that leads a group, and all that it started, at once.

    Args:
        pid: Its number; the caller makes sure that it still belongs to that process.
    """
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def process_exists(pid: int) -> bool:
    """Tell whether there is a process of this number, anybody's. Not for Windows.

    Example:
        >>> process_exists(os.getpid())
        True
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def error_values(error: OpsinError) -> list[str]:
    """Return an error as plain values, which `error_from` turns into the error again.

    Example:
        >>> error_values(OpsinError("a number", "got 'x'", "Write 3."))
        ['OpsinError', 'a number', "got 'x'", 'Write 3.']
    """
    return [type(error).__name__, *error.args]


def error_from(parts: Sequence[str]) -> OpsinError:
    """Return the error that a child described; one that Opsin does not know is an `OpsinError`.

    Args:
        parts: What `error_values` returned.
    """
    kind, *texts = parts
    known = getattr(opsin.core.errors, kind, None)
    if not (isinstance(known, type) and issubclass(known, OpsinError)):
        known = OpsinError
    return known(*texts)


def take_output() -> BinaryIO:
    """Return this process's standard output; what it prints from now on goes to standard error.

    So nothing that a library prints gets between two answers.
    """
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


def end_first() -> None:
    """Have the system end this process before its parent where memory runs out (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")


def limit_process(memory: int) -> None:
    """Let this process take no more memory, write no file and leave no core dump behind.

    Args:
        memory: Bytes beyond what it has now. Held on Linux.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  there is none on Windows

    def set_limit(which: int, most: int) -> None:
        with contextlib.suppress(ValueError, OSError):  # a lower one is in force already
            resource.setrlimit(which, (most, most))

    set_limit(resource.RLIMIT_CORE, 0)
    set_limit(resource.RLIMIT_FSIZE, 0)
    if (present := _memory_now()) is not None:
        set_limit(resource.RLIMIT_AS, present + memory)


def limit_memory(memory: int) -> None:
    """Let this process take no more memory from now on; the limit may be changed again.

    Args:
        memory: Bytes beyond what it has now. Held on Linux.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  there is none on Windows

    if (present := _memory_now()) is not None:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = (
            present + memory if most == resource.RLIM_INFINITY else min(present + memory, most)
        )
        resource.setrlimit(resource.RLIMIT_AS, (allowed, most))


def _memory_now() -> int | None:
    """Return the bytes of addresses that this process has; ``None`` where the system has no say."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return None
    return int(pages.read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
