"""Opsin's cache: where it is, its keys and digests. All in it is made again when needed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import platformdirs
from numpy.typing import NDArray

from opsin.core.errors import StorageError
from opsin.core.platform import only_we_write
from opsin.core.storage import atomic_file
from opsin.core.stored_arrays import read_arrays

Made = TypeVar("Made")

#: File that describes the contents of its folder.
ABOUT: Final = "about.json"
# Changes whenever the same files give other pixels or arrays.
_VERSION: Final = "8"
_SHIFT: Final = 64 - 10


def cache_root() -> Path:
    """Return the cache's folder: ``$OPSIN_CACHE``, or the system's default."""
    value = os.environ.get("OPSIN_CACHE")
    return Path(os.path.expanduser(value)) if value else platformdirs.user_cache_path("opsin")  # noqa: PTH111  never raises


def is_own(path: Path) -> bool:
    """Tell whether only this account can have written a file: caches may be in shared folders."""
    return all(only_we_write(part.lstat()) for part in (path, path.parent))


def make_own(path: Path) -> None:
    """Remove other accounts' write permission, so that `is_own` holds."""
    for part in (path, path.parent):
        part.chmod(stat.S_IMODE(part.stat().st_mode) & ~0o022)


def index_key(*parts: object) -> str:
    """Return a cache key of a listing and its preparation."""
    return hashlib.sha256(repr((_VERSION, *parts)).encode("utf-8", "surrogateescape")).hexdigest()


def kept_arrays(
    kind: str,
    key: str,
    compute: Callable[[], dict[str, NDArray[Any]]],
    made_of: Callable[[Mapping[str, NDArray[Any]]], Made],
) -> Made:
    """Return what is made of arrays that were computed for a key before, or are now."""
    file = cache_root() / kind / f"{key[:32]}.npz"
    try:
        return made_of(read_arrays(file))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        arrays = compute()
    # A failed write costs only time the next time.
    with contextlib.suppress(StorageError), atomic_file(file) as new, new.open("wb") as target:
        np.savez(target, allow_pickle=False, **arrays)
    return made_of(arrays)


def new_array(path: Path, dtype: type[np.generic] | np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Make an ``.npy`` file of zeros with its disk space allocated."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    start, end = array.offset, array.offset + array.nbytes
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, end)
        except (OSError, AttributeError) as error:
            if getattr(error, "errno", None) not in (None, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            file.seek(start)
            file.writelines(bytes(min(1 << 22, end - at)) for at in range(start, end, 1 << 22))


def short_digest(digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the first half of digests, enough to identify images."""
    return digests[..., :16]


def digest_names(digests: NDArray[np.uint8]) -> list[str]:
    """Return the first half of each digest in hexadecimal, as written to tables."""
    return [half.tobytes().hex() for half in short_digest(digests)]


def as_keys(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    """Return each digest as one value ``[N]``, to compare, sort and make unique."""
    return np.ascontiguousarray(digests).view(f"V{digests.shape[1]}").ravel()


def digest_rows(images: NDArray[np.uint8 | np.uint16]) -> NDArray[np.uint8]:
    """Return the SHA-256 of each image's shape and pixels: ``uint8[N, 32]``."""
    digests = np.empty((len(images), 32), np.uint8)
    shape = hashlib.sha256(repr(images.shape[1:]).encode())
    for row, image in enumerate(images):
        whole = shape.copy()
        whole.update(np.ascontiguousarray(image).data)
        digests[row] = np.frombuffer(whole.digest(), np.uint8)
    return digests


class NameSet:
    """A set of names in little more than 8 bytes each: their digests in sorted arrays."""

    def __init__(self) -> None:
        # With a key of its own, so that no name can be chosen which is taken for another. Among a
        # hundred million names the chance that two share a digest is 3e-4.
        self._key, self._buckets = os.urandom(16), [array("Q") for _ in range(1 << (64 - _SHIFT))]

    def _find(self, name: bytes) -> tuple[bool, array[int], int, int]:
        digest = int.from_bytes(hashlib.blake2b(name, digest_size=8, key=self._key).digest())
        bucket = self._buckets[digest >> _SHIFT]
        index = bisect_left(bucket, digest)
        return index < len(bucket) and bucket[index] == digest, bucket, index, digest

    def __contains__(self, name: bytes) -> bool:
        return self._find(name)[0]

    def add(self, name: bytes) -> bool:
        """Add a name; tell whether it is new."""
        known, bucket, index, digest = self._find(name)
        if not known:
            bucket.insert(index, digest)
        return not known
