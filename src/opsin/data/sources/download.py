"""Files fetched over HTTPS, or out of a Debian package."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from opsin.errors import DownloadError

_CHUNK = 1 << 18
#: Seconds without a byte after which a connection is given up.
TIMEOUT = 20.0


def fetch(
    url: str, target: Path, *, limit: int, advance: Callable[[int], None] = lambda _: None
) -> int:
    """Download one file.

    Args:
        url: Where it is.
        target: Where it goes.
        limit: Bytes after which the answer cannot be the right file.
        advance: Is told the number of bytes so far.

    Returns:
        The number of bytes.

    Raises:
        DownloadError: The server cannot be reached, stalls, answers with an error, ends early or
            sends more than ``limit``.
    """
    done = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, target.open("wb") as file:  # noqa: S310
            stated = answer.headers.get("Content-Length")
            while chunk := answer.read(_CHUNK):
                done += len(chunk)
                if done > limit:
                    raise DownloadError(
                        f"at most {limit:,} bytes", f"{url} sends more", "Report this."
                    )
                file.write(chunk)
                advance(done)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DownloadError("a download", f"{url}: {reason}", "Check the network.") from error
    except ConnectionError as error:
        raise DownloadError(
            "a download", f"{url}: the connection broke off", "Try again."
        ) from error
    if stated is not None and int(stated) != done:
        raise DownloadError(f"{int(stated):,} bytes", f"{url} ended after {done:,}", "Try again.")
    return done


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
