"""Collections that are known by a name."""

from __future__ import annotations

import hashlib
import importlib.resources
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from opsin.data.cache import cache_root
from opsin.data.sources import download, idx
from opsin.data.sources.arrays import from_arrays
from opsin.data.sources.contents import Contents, Found
from opsin.errors import DownloadError, SourceError
from opsin.events import Watcher
from opsin.storage import publish_directory, scratch_directory


@dataclass(frozen=True)
class Published:
    """A collection of IDX files that others publish.

    Args:
        files: SHA-256 of each file's decompressed content, by its published name. Content, not
            packing, because each publisher compressed it anew.
        system: Where a system's data package puts the files.
        url: Where upstream publishes them.
        package: Name of Debian's package.
        size: Bytes of all files together, for the progress bar.
        classes: Class names in the order of the labels.
        mirrored: Whether a mirrored picture is still of its class.
    """

    files: dict[str, str]
    system: Path
    url: str
    package: str
    size: int
    classes: tuple[str, ...]
    mirrored: bool


FASHION_MNIST: Final = Published(
    files={
        "train-images-idx3-ubyte.gz":
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte.gz":
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte.gz":
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte.gz":
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    system=Path("/usr/share/datasets/fashion-mnist"),
    url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    package="dataset-fashion-mnist",
    size=30_878_645,
    classes=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    mirrored=True,
)  # fmt: skip


def find_named(name: str, *, watcher: Watcher) -> Found:
    """Find a collection by its name; nothing is read before `Found.open`."""
    return _NAMED[name](name, watcher)


def _digits(name: str, _: Watcher) -> Found:
    """Find scikit-learn's 1,797 scanned digits (UCI, CC BY 4.0): 8×8, embedded in Opsin."""

    def read() -> Contents:
        file = importlib.resources.files("opsin.data.sources") / "digits.npz"
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            # The scans count dark pixels in cells of 4×4: 0 to 16.
            images = (arrays["images"].astype(np.uint16) * 255 // 16).astype(np.uint8)
            return from_arrays(images, arrays["labels"], source=name, mirrored=False)

    return Found(key=f"{name} 1", open=read)


def _fashion_mnist(name: str, watcher: Watcher) -> Found:
    """Find Zalando's 70,000 pictures of clothes (arXiv:1708.07747): 28×28, grey."""
    published = FASHION_MNIST

    def read() -> Contents:
        folder = locate(name, published, watcher)
        train, test = (
            (idx.read_idx(folder / images), idx.read_idx(folder / labels))
            for images, labels in zip(
                list(published.files)[::2], list(published.files)[1::2], strict=True
            )
        )
        return from_arrays(
            *train, published.classes, source=name, test=test, mirrored=published.mirrored
        )

    return Found(key=f"{name} {' '.join(published.files.values())}", open=read)


_NAMED: Final[dict[str, Callable[[str, Watcher], Found]]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
}

#: The names there are.
NAMES: Final = tuple(_NAMED)


def locate(name: str, published: Published, watcher: Watcher) -> Path:
    """Return a folder with the published files: cache, system, upstream, Debian, in this order.

    Raises:
        DownloadError: No place gave the files, or what came is not what was published.
    """
    cached = cache_root() / "sources" / name
    for folder in (cached, published.system):
        if folder.is_dir() and not _differing(folder, published):
            return folder
    shutil.rmtree(cached, ignore_errors=True)
    reasons = []
    for fetch in (_from_upstream, _from_debian):
        try:
            with scratch_directory(cached.parent) as folder:
                fetch(folder, published, watcher)
                differing = _differing(folder, published)
                if differing:
                    raise DownloadError(
                        "the published content (its SHA-256)",
                        f"{differing} came otherwise",
                        "Try again later, or from another network.",
                    )
                publish_directory(folder, cached)
        except DownloadError as error:
            reasons.append(error.received)
        else:
            return cached
    raise DownloadError(
        f"to fetch {name}",
        "; ".join(reasons),
        f"Connect to the network, or put the published files into {cached}.",
    )


def _differing(folder: Path, published: Published) -> str | None:
    """Return the first file that is missing or whose content is not the published one."""
    for name, expected in published.files.items():
        try:
            content = idx.read_content(folder / name)
        except SourceError:
            return name
        if hashlib.sha256(content).hexdigest() != expected:
            return name
    return None


def _from_upstream(folder: Path, published: Published, watcher: Watcher) -> None:
    watcher.begin("Download", published.size, "B")
    done = 0
    for name in published.files:
        done += download.fetch(
            published.url + name,
            folder / name,
            limit=2 * published.size,
            advance=_after(done, watcher),
        )
    watcher.end()


def _after(done: int, watcher: Watcher) -> Callable[[int], None]:
    """Return what tells a watcher of a file's bytes, on top of those of the files before it."""
    return lambda got: watcher.advance(done + got)


def _from_debian(folder: Path, published: Published, _: Watcher) -> None:
    unpacked = download.fetch_debian_package(published.package, folder)
    for name in published.files:
        source = unpacked / published.system.relative_to("/") / name
        if not source.is_file():
            raise DownloadError(
                f"{name} in {published.package}", "the package has no such file", "Report this."
            )
        source.rename(folder / name)
    shutil.rmtree(unpacked)
