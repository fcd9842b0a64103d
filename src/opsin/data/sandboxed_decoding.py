"""Decoding of untrusted images in a sandboxed process.

A malicious file can make a decoder loop or exhaust memory before its size is known. Files that are
not plainly harmless are opened here, within limits, so that each costs at most one answer.
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

# Besides reading the file, so that a file costs less than five seconds in all.
_SECONDS: Final = 3.0
# Besides the 50 MB of the bare process, so that it stays below 512 MB.
_MEMORY: Final = 440 << 20
_PROCESSES: Final = min(8, cores())
# Files refused for time, memory or a crash: why, and when. The machine may have been busy, so an
# entry expires after this many seconds; beyond the limit all are dropped.
_REMEMBERED: Final = 300.0
_MOST: Final = 10_000
_refused: dict[bytes, tuple[str, float]] = {}


def open_apart(
    content: bytes, name: str = "the image", *, side: int | None = None
) -> tuple[NDArray[np.uint8], str]:
    """Open an image in the sandbox; return its upright pixels and its format."""
    answer, pixels = ask({"do": "open", "name": name, "side": side}, content)
    return np.frombuffer(pixels, np.uint8).reshape(answer["shape"]), answer["format"]


def ask(header: Header, content: bytes) -> tuple[Header, bytes]:
    """Send a file's bytes to `opsin.data.decode_worker`."""
    # A file is read more than once, but refused only once.
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
    """Return this process's sandbox: a fork must not share locks and pipes with its parent."""
    del owner
    return Sandbox(
        "opsin.data.decode_worker:decode", seconds=_SECONDS, memory=_MEMORY, processes=_PROCESSES
    )
