"""Files that others publish: found, fetched and resumed over HTTPS or out of a package, checked."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from ssl import SSLError
from typing import cast

from opsin.core.errors import DownloadError
from opsin.core.events import Watcher
from opsin.core.files import open_regular
from opsin.core.storage import exclusive, publish_directory, scratch_directory, storage_errors
from opsin.data.cache import cache_root
from opsin.data.sources import idx

_CHUNK = 1 << 18
#: Seconds without a byte after which a connection is given up.
TIMEOUT = 20.0


@dataclass(frozen=True)
class Published:
    """A collection of files that others publish."""

    files: dict[str, str]
    url: str
    size: int
    mirrored: bool
    classes: tuple[str, ...] = ()
    packed: bool = False
    system: Path | None = None
    package: str | None = None

    def is_whole(self, folder: Path) -> bool:
        """Tell whether all files are in a folder."""
        return all(self.is_one(folder / name, name) for name in self.files)

    def is_one(self, file: Path, name: str) -> bool:
        """Tell whether a file is there and its content is the published one of a name."""
        try:
            with open_regular(file) if self.packed else idx.opened(file) as stream:
                digest = hashlib.file_digest(cast(BufferedIOBase, stream), "sha256")
        except (OSError, EOFError, zlib.error):
            return False
        return digest.hexdigest() == self.files[name]


def locate(name: str, published: Published, watcher: Watcher) -> Path:
    """Return a folder with the published files: cache, system, upstream, Debian, in this order."""
    kept = cache_root() / "sources"
    cached = kept / name
    for folder in (cached, published.system):
        if folder is not None and published.is_whole(folder):
            return folder
    with (
        storage_errors(kept),
        exclusive(
            kept / f"{name}.lock",
            lambda: watcher.note(f"Another process is fetching {name}; this one waits for it."),
        ),
    ):
        if published.is_whole(cached):  # that process has
            return cached
        reasons = []
        parts = kept / f"{name}.parts"  # where they stay until all are there
        for fetch_all in (_from_upstream, *([_from_debian] if published.package else [])):
            try:
                with scratch_directory(kept) as folder:
                    fetch_all(folder, parts, published, watcher)
                    # Only now: what was there stays where nothing better comes.
                    shutil.rmtree(cached, ignore_errors=True)
                    publish_directory(folder, cached)
            except DownloadError as error:
                reasons.append(error.received)
            else:
                shutil.rmtree(parts, ignore_errors=True)
                return cached
    raise DownloadError(
        f"to fetch {name}",
        "; ".join(reasons),
        f"Connect to the network, or put the published files into {cached}: "
        f"{', '.join(published.files)}.",
    )


def _differs(name: str) -> DownloadError:
    return DownloadError(
        "the published content (its SHA-256)",
        f"{name} came otherwise",
        "Try again later, or from another network.",
    )


def _from_upstream(folder: Path, parts: Path, published: Published, watcher: Watcher) -> None:
    parts.mkdir(parents=True, exist_ok=True)
    watcher.begin("Download", published.size, "B")
    done = 0
    for name in published.files:
        part = parts / f"{name}.part"
        if not published.is_one(part, name):
            before = done
            fetch(
                published.url + name,
                part,
                limit=2 * published.size,
                advance=lambda got, before=before: watcher.advance(before + got),  # type: ignore[misc]
            )
            if not published.is_one(part, name):
                part.unlink()
                raise _differs(name)
        done += part.stat().st_size
        watcher.advance(done)
    watcher.end()
    for name in published.files:
        (parts / f"{name}.part").rename(folder / name)


def fetch(
    url: str, target: Path, *, limit: int, advance: Callable[[int], None] = lambda _: None
) -> None:
    """Download one file, or the rest of it where an earlier download broke off."""
    done = target.stat().st_size if target.exists() else 0
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310  addresses are Opsin's own
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
            done = done if answer.status == http.client.PARTIAL_CONTENT and goes_on else 0
            expected = int(answer.headers.get("Content-Length") or 0)
            expected = expected and done + expected
            advance(done)
            with target.open("ab" if done else "wb") as file:
                while (chunk := answer.read(_CHUNK)) and done <= limit:
                    done += file.write(chunk)
                    advance(done)
    except (
        urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, SSLError
    ) as error:  # fmt: skip
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                target.unlink(missing_ok=True)  # the server has less than is here
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise DownloadError("a download", f"{url}: {reason}", "Check the network.") from error
    if done > limit:
        target.unlink()
        raise DownloadError(f"at most {limit:,} bytes", f"{url} sends more", "Report this.")
    if expected and expected != done:
        raise DownloadError(f"{expected:,} bytes", f"{url} ended after {done:,}", "Try again.")


def _from_debian(folder: Path, _: Path, published: Published, __: Watcher) -> None:
    """Take the files out of Debian's data package, without installing it."""
    package, system = published.package or "", published.system or Path("/")
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if not (apt and dpkg):
        raise DownloadError("apt-get and dpkg-deb", "this system has none", "Use another way.")
    unpacked = Path(tempfile.mkdtemp(dir=folder, prefix="package."))
    try:
        for command in ([apt, "--quiet", "download", package], [dpkg, "-x", "", "."]):
            archives = [file.name for file in unpacked.glob("*.deb")]
            words = [word or archives[0] for word in command]
            subprocess.run(words, cwd=unpacked, check=True, capture_output=True, timeout=600)  # noqa: S603
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise DownloadError("Debian's package", f"{package}: {lines[-1]}", "Try again.") from error
    except (OSError, IndexError, subprocess.TimeoutExpired) as error:
        raise DownloadError("Debian's package", f"{package}: {error}", "Try again.") from error
    for name in published.files:
        file = unpacked / system.relative_to("/") / name
        if not published.is_one(file, name):
            raise _differs(f"{name} of {package}")
        file.rename(folder / name)
    shutil.rmtree(unpacked)
