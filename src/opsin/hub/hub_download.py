"""A file of the hub, fetched so that nothing of it is fetched twice.

huggingface_hub has the connection, its sign-in and its errors; but from version 2 on it throws away
what came before Ctrl-C or a crash, asks a silent hub again for minutes, and compares no digests. So
the bytes are written by code of our own.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from opsin.core.errors import DownloadError
from opsin.core.storage import storage_errors

_PARTIAL: Final = 206
_RANGE_REFUSED: Final = 416
# Times that a connection may break with nothing new in between, and seconds of waiting.
_FRUITLESS: Final = 2
_PAUSE: Final = 1.0

#: Asks for a file from one byte on: yields a response of huggingface_hub's client.
Ask = Callable[[int], Any]


def download(
    ask: Ask,
    target: Path,
    *,
    size: int,
    digest: str,
    broken: tuple[type[Exception], ...],
    advance: Callable[[int], None],
) -> None:
    """Fetch a file, or the rest of it where an earlier download broke off.

    Args:
        ask: A context manager for the bytes from a place on.
        target: Where it goes once it is whole and proved; what there is of it stands beside it, as
            ``.incomplete``. No other process may write there meanwhile.
        size: Bytes that it has.
        digest: SHA-256 of it, or for small files git's SHA-1, in hexadecimal.
        broken: What is raised where the connection breaks: `ConnectionError`, and the client's own.
        advance: Called with the number of bytes so far.

    Raises:
        DownloadError: What came is not what was announced; it is thrown away.
        StorageError: The disk refuses it; what came stays.
    """
    partial = target.with_name(f"{target.name}.incomplete")
    with storage_errors(partial):
        partial.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("ab")
    fruitless = 0
    with file:
        while (before := file.tell()) < size:
            advance(before)
            try:
                for done in _received(ask, file, size):
                    advance(done)
            except broken:
                fruitless = 0 if file.tell() > before else fruitless + 1
                if fruitless >= _FRUITLESS:
                    raise
                time.sleep(_PAUSE)
        too_long = file.tell() > size
    found = "" if too_long else _digest_of(partial, git=len(digest) == 40)
    if found != digest:
        partial.unlink(missing_ok=True)
        raise DownloadError(
            f"the {size:,} bytes that the hub announces, with the digest {digest[:12]}…",
            "it sent more" if too_long else f"it sent others, with {found[:12]}…",
            "They are thrown away; run it again.",
        )
    with storage_errors(target):
        partial.replace(target)


def _received(ask: Ask, file: BinaryIO, size: int) -> Iterator[int]:
    """Write what comes, and yield how many bytes there are."""
    done = file.tell()
    with ask(done) as response:
        if response.status_code == _RANGE_REFUSED or (done and response.status_code != _PARTIAL):
            # It sends no parts, or has another file by now.
            with storage_errors(Path(file.name)):
                file.truncate(0)
                file.seek(0)
            if response.status_code == _RANGE_REFUSED:
                return
        done = file.tell()
        for chunk in response.iter_bytes():
            with storage_errors(Path(file.name)):
                file.write(chunk)
                file.flush()
            done += len(chunk)
            yield done
            if done > size:
                return
    if done < size:
        raise ConnectionError("the connection ended early")


def _digest_of(path: Path, *, git: bool) -> str:
    """Return the digest of a file as the hub states it: SHA-256, or that of a blob in git."""
    with path.open("rb") as file:
        if not git:
            return hashlib.file_digest(file, "sha256").hexdigest()
        content = file.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
