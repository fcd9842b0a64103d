"""Images opened in a process that may die, whatever they hold.

A decoder can be made to loop or to take all memory before it has told an image's size. What is not
plainly harmless is opened here, within limits, and costs one answer.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.child_process import Header
from opsin.core.errors import ImageError, SandboxError
from opsin.core.platform import cores
from opsin.core.sandbox import Sandbox

# Beside what reading the file takes, so that a file costs less than five seconds in all.
_SECONDS: Final = 3.0
# Beside the 50 MB that the process has from its start, so that it stays below 512 MB.
_MEMORY: Final = 440 << 20
_PROCESSES: Final = min(8, cores())
# What was refused for its time, memory or a crash: why, and when. A busy machine is no fault of the
# file, so that is forgotten after this many seconds, and all of it where it becomes too many.
_REMEMBERED: Final = 300.0
_MOST: Final = 10_000
_refused: dict[bytes, tuple[str, float]] = {}


def open_apart(
    content: bytes, name: str = "the image", *, side: int | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Open an image in a process of its own; return its upright pixels and its format."""
    answer, pixels = ask({"do": "open", "name": name, "side": side}, content)
    return np.frombuffer(pixels, np.uint8).reshape(answer["shape"]), answer["format"]


def ask(header: Header, content: bytes) -> tuple[Header, bytes]:
    """Have `opsin.data.decode_worker` do something with a file's bytes."""
    # A file is looked at more than once: it takes its time once.
    digest = _digest(content) if _refused else b""
    reason, since = _refused.get(digest, ("", -math.inf))
    if time.monotonic() - since > _REMEMBERED:
        try:
            return _sandbox(os.getpid()).call(header, content)
        except SandboxError as error:
            reason = error.message
        if len(_refused) >= _MOST:
            _refused.clear()
        _refused[digest or _digest(content)] = reason, time.monotonic()
    raise ImageError(
        f"{header['name']}: {reason}", "Leave it out, or save it again with another program."
    )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


@functools.cache
def _sandbox(owner: int) -> Sandbox:
    """This process's sandbox: a fork shares neither locks nor pipes with what it was."""
    del owner
    return Sandbox(
        "opsin.data.decode_worker:decode", seconds=_SECONDS, memory=_MEMORY, processes=_PROCESSES
    )
