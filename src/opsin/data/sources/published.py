"""Files that others publish: found, fetched, checked."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from opsin.core.errors import DownloadError
from opsin.core.events import Watcher
from opsin.core.regular_file import open_regular
from opsin.core.storage import exclusive, publish_directory, scratch_directory, storage_errors
from opsin.data.cache import cache_root
from opsin.data.sources import download, idx

# Seconds after which an unfinished download is given up.
_STALE = 7 * 86_400


@dataclass(frozen=True)
class Published:
    """A collection of files that others publish.

    Args:
        files: SHA-256 of each file by its published name: of the decompressed content where each
            publisher compressed it anew, else of the file.
        url: Where upstream publishes them.
        size: Bytes of all files together, for the progress bar.
        mirrored: Whether a mirrored image is still of its class.
        classes: Class names in the order of the labels; empty where the files name them.
        packed: The digests are those of the files as they are, not decompressed.
        system: Where a system's data package puts the files, where there is one.
        package: Name of Debian's package, where there is one.
    """

    files: dict[str, str]
    url: str
    size: int
    mirrored: bool
    classes: tuple[str, ...] = ()
    packed: bool = False
    system: Path | None = None
    package: str | None = None


def locate(name: str, published: Published, watcher: Watcher) -> Path:
    """Return a folder with the published files: cache, system, upstream, Debian, in this order.

    Raises:
        DownloadError: No place gave the files, or what came is not what was published.
    """
    kept = cache_root() / "sources"
    cached = kept / name
    for folder in (cached, published.system):
        if folder is not None and _is_whole(folder, published):
            return folder
    with (
        storage_errors(kept),
        exclusive(
            kept / f"{name}.lock",
            lambda: watcher.note(f"Another process is fetching {name}; this one waits for it."),
        ),
    ):
        if _is_whole(cached, published):  # that process has
            return cached
        _tell_replaced(name, cached, published, watcher)
        _sweep(kept)
        reasons = []
        for fetch in (_from_upstream, *([_from_debian] if published.package else [])):
            try:
                with scratch_directory(kept) as folder:
                    fetch(folder, kept / f"{name}.parts", published, watcher)
                    # Only now: what was there stays where nothing better comes.
                    shutil.rmtree(cached, ignore_errors=True)
                    publish_directory(folder, cached)
            except DownloadError as error:
                reasons.append(error.received)
            else:
                shutil.rmtree(kept / f"{name}.parts", ignore_errors=True)
                return cached
    raise DownloadError(
        f"to fetch {name}",
        "; ".join(reasons),
        f"Connect to the network, or put the published files into {cached}: "
        f"{', '.join(published.files)}.",
    )


def _sweep(kept: Path) -> None:
    """Remove what is left of downloads that were not continued for a week."""
    for parts in kept.glob("*.parts"):
        with contextlib.suppress(OSError):
            newest = max(file.stat().st_mtime for file in (parts, *parts.iterdir()))
            if time.time() - newest > _STALE:
                shutil.rmtree(parts, ignore_errors=True)


def _tell_replaced(name: str, cached: Path, published: Published, watcher: Watcher) -> None:
    """Say what becomes of files that an earlier Opsin fetched and this one does not read."""
    others = sorted(path.name for path in cached.glob("*") if path.name not in published.files)
    if others:
        watcher.note(
            f"{name} is now read from {', '.join(published.files)}, which is fetched once; "
            f"{', '.join(others[:3])}, fetched by an earlier Opsin, is removed then."
        )


def _is_whole(folder: Path, published: Published) -> bool:
    return all(_is_published(folder / name, name, published) for name in published.files)


def _is_published(file: Path, name: str, published: Published) -> bool:
    """Tell whether a file is there and its content is the published one."""
    try:
        with open_regular(file) if published.packed else idx.opened(file) as stream:
            digest = hashlib.file_digest(cast(BufferedIOBase, stream), "sha256")
    except (OSError, EOFError, zlib.error):
        return False
    return digest.hexdigest() == published.files[name]


def _check(file: Path, name: str, published: Published) -> None:
    if not _is_published(file, name, published):
        raise DownloadError(
            "the published content (its SHA-256)",
            f"{name} came otherwise",
            "Try again later, or from another network.",
        )


def _from_upstream(folder: Path, parts: Path, published: Published, watcher: Watcher) -> None:
    """Fetch each file into ``parts``, where it stays until all are there."""
    parts.mkdir(parents=True, exist_ok=True)
    watcher.begin("Download", published.size, "B")
    done = 0
    for name in published.files:
        part = parts / f"{name}.part"
        if _is_published(part, name, published):
            done += part.stat().st_size
            watcher.advance(done)
            continue
        done += download.fetch(
            published.url + name,
            part,
            limit=2 * published.size,
            advance=_after(done, watcher),
        )
        try:
            _check(part, name, published)
        except DownloadError:
            download.discard(part)
            raise
    watcher.end()
    for name in published.files:
        (parts / f"{name}.part").rename(folder / name)


def _after(done: int, watcher: Watcher) -> Callable[[int], None]:
    """Return what tells a watcher of a file's bytes, on top of those of the files before it."""
    return lambda got: watcher.advance(done + got)


def _from_debian(folder: Path, _: Path, published: Published, __: Watcher) -> None:
    package, system = published.package or "", published.system or Path("/")
    unpacked = download.fetch_debian_package(package, folder)
    for name in published.files:
        source = unpacked / system.relative_to("/") / name
        if not source.is_file():
            raise DownloadError(
                f"{name} in {package}", "the package has no such file", "Report this."
            )
        source.rename(folder / name)
        _check(folder / name, name, published)
    shutil.rmtree(unpacked)
