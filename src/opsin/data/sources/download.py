"""Files fetched over HTTPS and resumed, or out of a Debian package."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from ssl import SSLError
from typing import Any

from opsin.core.errors import DownloadError
from opsin.core.storage import write_json

_CHUNK = 1 << 18
#: Seconds without a byte after which a connection is given up.
TIMEOUT = 20.0
_NOT_SATISFIABLE = 416


def fetch(
    url: str, target: Path, *, limit: int, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Download one file, or the rest of it where an earlier download broke off.

    What came stays in ``target`` when the connection breaks, with ``<target>.json`` beside it:
    the server's mark of this version of the file. The next call asks for the rest of the same
    version (RFC 9110, Range and If-Range); where the server has another by now, or cannot send
    parts, the file is fetched from its start.

    Args:
        url: Where it is.
        target: Where it goes; no other process may write there meanwhile.
        limit: Bytes after which the answer cannot be the right file.
        advance: Called with the number of bytes so far, those of the earlier download too.

    Returns:
        The number of bytes.

    Raises:
        DownloadError: The server cannot be reached, stalls, answers with an error, ends early or
            sends more than ``limit``.
    """
    try:
        with _answer(url, target) as answer:
            done = _continued(answer, target, url)
            stated = answer.headers.get("Content-Length")
            expected = done + int(stated) if stated and stated.isdecimal() else None
            with target.open("ab") as file:
                advance(done)
                while chunk := answer.read(_CHUNK):
                    done += len(chunk)
                    if done > limit:
                        break
                    file.write(chunk)
                    advance(done)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, SSLError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DownloadError("a download", f"{url}: {reason}", "Check the network.") from error
    except ConnectionError as error:
        raise DownloadError(
            "a download", f"{url}: the connection broke off", "Try again."
        ) from error
    if done > limit:
        discard(target)
        raise DownloadError(f"at most {limit:,} bytes", f"{url} sends more", "Report this.")
    if expected is not None and expected != done:
        raise DownloadError(f"{expected:,} bytes", f"{url} ended after {done:,}", "Try again.")
    return done


def discard(target: Path) -> None:
    """Remove what was fetched into ``target``, and its mark."""
    target.unlink(missing_ok=True)
    _mark_of(target).unlink(missing_ok=True)


def _answer(url: str, target: Path) -> Any:
    """Ask for the file, or for the rest of it."""
    there = target.stat().st_size if target.exists() else 0
    mark = _read_mark(target, url)
    request = urllib.request.Request(url)  # noqa: S310  addresses are Opsin's own
    if there and mark:
        request.add_header("Range", f"bytes={there}-")
        request.add_header("If-Range", mark)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != _NOT_SATISFIABLE:
            raise
        error.close()
    else:
        if answer.status != http.client.PARTIAL_CONTENT or _starts_at(answer) == there:
            return answer
        answer.close()
    # The server has less than we have, or sends another part than was asked for.
    discard(target)
    return urllib.request.urlopen(url, timeout=TIMEOUT)  # noqa: S310


def _continued(answer: Any, target: Path, url: str) -> int:
    """Return how many bytes are there already; none, and a new mark, where it starts again."""
    if answer.status == http.client.PARTIAL_CONTENT:
        return target.stat().st_size
    discard(target)
    tag = answer.headers.get("ETag", "")
    # A weak tag (W/) promises no equal bytes.
    mark = tag if tag.startswith('"') else answer.headers.get("Last-Modified")
    write_json(_mark_of(target), {"asked": url, "mark": mark})
    return 0


def _starts_at(answer: Any) -> int | None:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _mark_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _read_mark(target: Path, url: str) -> str | None:
    try:
        content = json.loads(_mark_of(target).read_text(encoding="utf-8"))
        mark = content["mark"] if content["asked"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return mark if isinstance(mark, str) and mark.isprintable() else None


def fetch_debian_package(package: str, folder: Path) -> Path:
    """Fetch and unpack a data package, without installing it.

    Returns:
        A folder inside ``folder`` that holds the package's files.

    Raises:
        DownloadError: This is no Debian, or its mirror does not have the package.
    """
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if not (apt and dpkg):
        raise DownloadError("apt-get and dpkg-deb", "this system has none", "Use another way.")
    unpacked = Path(tempfile.mkdtemp(dir=folder, prefix="package."))
    try:
        _run([apt, "--quiet", "download", package], unpacked)
        archive = next(unpacked.glob("*.deb"))
        _run([dpkg, "-x", archive.name, "."], unpacked)
        archive.unlink()
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise DownloadError("Debian's package", f"{package}: {lines[-1]}", "Try again.") from error
    except (OSError, StopIteration, subprocess.TimeoutExpired) as error:
        raise DownloadError("Debian's package", f"{package}: {error}", "Try again.") from error
    return unpacked


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)  # noqa: S603
