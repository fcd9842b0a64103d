"""Named datasets, fetched over HTTPS or from a Debian package, and verified."""

from __future__ import annotations

import hashlib
import http.client
import importlib.resources
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import DownloadError
from opsin.core.events import Watcher
from opsin.core.files import open_regular
from opsin.core.storage import exclusive, publish_directory, scratch_directory, storage_errors
from opsin.data.cache import cache_root
from opsin.data.sources.arrays import from_arrays, opened_plain, read_idx
from opsin.data.sources.contents import LabelledImages, LocatedSource
from opsin.data.sources.rows import SourceKind, SourceRequest
from opsin.hub.hub_name import PREFIX
from opsin.stores.bucket import is_stored

#: Seconds without a byte after which a connection is given up.
TIMEOUT = 20.0


@dataclass(frozen=True)
class Published:
    """The files of a published dataset: SHA-256 by name, of what gzip packs unless ``packed``."""

    files: dict[str, str]
    url: str
    size: int
    mirrored: bool
    classes: tuple[str, ...] = ()
    packed: bool = False
    system: Path | None = None
    package: str | None = None

    def is_in(self, folder: Path, *names: str) -> bool:
        """Tell whether a folder has some files, or all, as they were published."""
        try:
            for name in names or self.files:
                file = folder / name
                with open_regular(file) if self.packed else opened_plain(file) as stream:
                    digest = hashlib.file_digest(cast(BufferedIOBase, stream), "sha256")
                if digest.hexdigest() != self.files[name]:
                    return False
        except (OSError, EOFError, zlib.error):
            return False
        return True


# The files of MNIST and its replacements.
_IDX_FILES: Final = (
    "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
)  # fmt: skip

_PUBLISHED: Final = {
    # Krizhevsky's 60,000 photographs (Learning Multiple Layers of Features, 2009): 32×32, colour.
    "cifar10": Published(
        {"cifar-10-binary.tar.gz":
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
        "https://www.cs.toronto.edu/~kriz/", 170_052_171, mirrored=True, packed=True,
    ),
    # Zalando's 70,000 images of clothes (arXiv:1708.07747): 28×28, grey.
    "fashion-mnist": Published(
        dict(zip(_IDX_FILES, (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ), strict=True)),
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        30_878_645, mirrored=True,
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        system=Path("/usr/share/datasets/fashion-mnist"),
        package="dataset-fashion-mnist",
    ),
    # LeCun's 70,000 written digits: 28×28, grey.
    "mnist": Published(
        dict(zip(_IDX_FILES, (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ), strict=True)),
        "https://ossci-datasets.s3.amazonaws.com/mnist/", 11_594_722, mirrored=False,
        classes=tuple("0123456789"),
    ),
}  # fmt: skip

#: All names.
NAMES: Final = tuple(sorted([*_PUBLISHED, "digits"]))


def _open_digits() -> LabelledImages:
    """Read scikit-learn's 1,797 scanned digits (UCI, CC BY 4.0): 8×8, embedded in Opsin."""
    file = importlib.resources.files("opsin.data.sources") / "digits.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        # The scans count dark pixels in cells of 4×4: 0 to 16.
        images = (arrays["images"].astype(np.uint16) * 255 // 16).astype(np.uint8)
        return from_arrays(images, arrays["labels"], source="digits", mirrored=False)


def open_published(name: str, published: Published, watcher: Watcher) -> LabelledImages:
    """Read a dataset of four IDX files, or of one CIFAR archive."""
    folder, files = locate_files(name, published, watcher), list(published.files)
    if len(files) == 1:
        return open_cifar(folder / files[0], source=name)
    images, labels, *test = (read_idx(folder / file) for file in files)
    return from_arrays(
        images,
        labels,
        published.classes,
        source=name,
        test=(test[0], test[1]),
        mirrored=published.mirrored,
    )


def open_cifar(path: Path, *, source: str) -> LabelledImages:
    """Read CIFAR's binary archive, whose digest is known.

    A record is a label and a 32×32 image in three planes, red first
    (https://www.cs.toronto.edu/~kriz/cifar.html).
    """
    with tarfile.open(path) as archive:
        members = {PurePosixPath(member.name).name: member for member in archive}

        def read(name: str) -> bytes:
            return cast("IO[bytes]", archive.extractfile(members[name])).read()

        train = [read(f"data_batch_{number}.bin") for number in range(1, 6)]
        test, names = read("test_batch.bin"), read("batches.meta.txt")

    def records(batches: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        rows = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        planes = rows[:, 1:].reshape(-1, 3, 32, 32)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), rows[:, 0].astype(np.int64)

    classes = names.decode("utf-8", "replace").split()
    return from_arrays(*records(train), classes, source=source, test=records([test]))


def locate_files(name: str, published: Published, watcher: Watcher) -> Path:
    """Return a folder with the published files: cache, system, upstream or Debian."""
    kept = cache_root() / "sources"
    cached = kept / name
    for folder in filter(None, (cached, published.system)):
        if published.is_in(folder):
            return folder
    waiting = f"Another process is fetching {name}; this one waits for it."
    with storage_errors(kept), exclusive(kept / f"{name}.lock", lambda: watcher.note(waiting)):
        if published.is_in(cached):  # that process has
            return cached
        reasons = []
        for fetch_all in (_from_upstream, *([_from_debian] if published.package else [])):
            try:
                with scratch_directory(kept) as folder:
                    fetch_all(folder, published, watcher)
                    # Only now, so that a failed download removes nothing.
                    shutil.rmtree(cached, ignore_errors=True)
                    publish_directory(folder, cached)
            except DownloadError as error:
                reasons.append(error.message)
            else:
                return cached
    raise DownloadError(
        f"{name} cannot be fetched: {'; '.join(reasons)}",
        f"Connect to the network, or put the published files into {cached}: "
        f"{', '.join(published.files)}.",
    )


def _from_upstream(folder: Path, published: Published, watcher: Watcher) -> None:
    watcher.begin("Download", published.size, "B")
    before, limit = 0, 2 * published.size
    for name in published.files:
        url, done = published.url + name, 0
        with (folder / name).open("wb") as file:
            try:
                with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310  our own
                    expected = int(answer.headers.get("Content-Length") or 0)
                    while (chunk := answer.read(1 << 18)) and done <= limit:
                        with storage_errors(folder):
                            done += file.write(chunk)
                        watcher.advance(before + done)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                reason = getattr(error, "reason", None) or str(error) or type(error).__name__
                raise DownloadError(f"{url}: {reason}", "Check the network.") from error
        if done > limit:
            raise DownloadError(f"{url} sends more than {limit:,} bytes", "Report this.")
        if expected and expected != done:
            raise DownloadError(f"{url} ended after {done:,} of {expected:,} bytes", "Try again.")
        if not published.is_in(folder, name):
            raise DownloadError(f"{name} is not what was published (its SHA-256 differs)")
        before += done
    watcher.end()


def _from_debian(folder: Path, published: Published, _: Watcher) -> None:
    """Extract the files from Debian's data package, without installing it."""
    package, system = published.package or "", published.system or Path("/")
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if not (apt and dpkg):
        raise DownloadError("This system has no apt-get and dpkg-deb")
    unpacked = Path(tempfile.mkdtemp(dir=folder, prefix="package."))
    try:
        for command in ([apt, "--quiet", "download", package], [dpkg, "-x", "", "."]):
            archives = [file.name for file in unpacked.glob("*.deb")]
            words = [word or archives[0] for word in command]
            subprocess.run(words, cwd=unpacked, check=True, capture_output=True, timeout=600)  # noqa: S603
    except (OSError, IndexError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        reason = (said or str(error)).splitlines()[-1]
        raise DownloadError(f"Debian's package {package}: {reason}") from error
    files = unpacked / system.relative_to("/")
    if not published.is_in(files):
        raise DownloadError(f"The files of {package} are not what was published")
    for name in published.files:
        (files / name).rename(folder / name)
    shutil.rmtree(unpacked)


def is_place(source: str) -> bool:
    """Tell whether a source is a local path, not a name or an address on the hub or a store."""
    return source not in NAMES and not source.startswith(PREFIX) and not is_stored(source)


def _locate(request: SourceRequest) -> LocatedSource:
    name, watcher = request.written, request.watcher
    if request.is_folder:
        watcher.note(f"{name} is Opsin's own name; for the folder here, write ./{name}.")
    if name == "digits":
        return LocatedSource("digits 1", _open_digits)
    published = _PUBLISHED[name]
    key = f"{name} {' '.join(published.files.values())}"
    return LocatedSource(key, lambda: open_published(name, published, watcher))


KINDS = (
    SourceKind(f"a name ({', '.join(NAMES)})", lambda request: request.written in NAMES, _locate),
)
