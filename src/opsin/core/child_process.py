"""What the processes that Opsin starts share: how they start, what they answer, how they end.

The parent uses `module_command`, `child_environment`, `error_from` and `exit_reason`; the child
`take_output` and `error_values`. What they may take is limited in `opsin.core.platform`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import BinaryIO, Final

import opsin.core.errors
from opsin.core.errors import OpsinError

# Not for children: what belongs to the web framework or to a test, and the servers' token.
_PRIVATE: Final = ("NICEGUI_", "PYTEST_", "OPSIN_TOKEN")


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of Opsin's with this interpreter."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(*, one_thread: bool = False) -> dict[str, str]:
    """Return this process's environment without what is private to it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_PRIVATE)}
    if one_thread:
        kept |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # Nothing in the folder that a child works in is a module: it may hold what people upload.
    return kept | {"PYTHONSAFEPATH": "1"}


def exit_reason(status: int) -> str:
    """Name the signal that ended a process, or its exit status."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"


def error_values(error: OpsinError) -> list[str]:
    """Return an error as plain values, which `error_from` turns into the error again."""
    return [type(error).__name__, *error.args]


def error_from(parts: Sequence[str]) -> OpsinError:
    """Return the error that a child described; one that Opsin does not know is an `OpsinError`."""
    kind, *texts = parts
    known = getattr(opsin.core.errors, kind, None)
    if not (isinstance(known, type) and issubclass(known, OpsinError)):
        known = OpsinError
    error = known.__new__(known, *texts)
    OpsinError.__init__(error, *texts)  # its own may take other values than the texts
    return error


def take_output() -> BinaryIO:
    """Return this process's standard output; what it prints from now on goes to standard error."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output
