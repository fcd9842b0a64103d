"""A bucket of an object store: listed, read and written by obstore, which signs and retries."""

from __future__ import annotations

import errno
import functools
import mmap
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import HttpUrl, ValidationError

from opsin.core.child_process import call_in_thread
from opsin.core.errors import MissingExtraError, SourceError, StorageError
from opsin.core.storage import atomic_file, storage_errors
from opsin.stores.store_address import ADDRESSES, UNKNOWN_SIZE, Store, StoreAddress, StoredObject
from opsin.stores.store_errors import is_missing, is_taken, store_errors

if TYPE_CHECKING:
    from obstore import ObjectMeta

T = TypeVar("T")

#: Concurrent requests; each takes some ten milliseconds.
CONNECTIONS: Final = 16
#: A transfer may take this many seconds, plus one for each so many bytes.
PATIENCE, SLOWEST = 120, 100_000
# Most bytes of a single request; only single requests can be conditional.
_LARGEST: Final = {"s3": 5 << 30, "gs": 5 << 40, "az": 5000 << 20}
_PROCESS: Final = os.getpid()


def open_bucket(where: StoreAddress | StoredObject) -> Bucket:
    """Return the bucket of an address, cached in the process; sends no request."""
    # Renewed credentials in this process take effect.
    settings = [item for item in os.environ.items() if item[0].startswith(("AWS", "GOOG", "AZUR"))]
    return _opened(where.store, where.bucket, hash(frozenset(settings)))


@functools.lru_cache(maxsize=8)
def _opened(store: Store, name: str, settings: int) -> Bucket:  # noqa: ARG001  what it depends on
    return Bucket(store, name)


class Bucket:
    """A bucket, safe for threads. Credentials come from the environment."""

    def __init__(self, store: Store, name: str) -> None:
        try:
            import obstore  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingExtraError("sources on object stores", store) from error
        self.store: Store = store
        self.name = name
        self._obstore = obstore
        # `_pieces` handles slow transfers.
        self._client = self._connect(
            timeout=timedelta(hours=1), read_timeout=timedelta(seconds=30)
        )  # of silence

    def _connect(self, **timeouts: timedelta) -> Any:
        from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  an extra

        for variable in ADDRESSES[self.store]:
            written = os.environ.get(variable)
            if written and not _is_address(written):
                raise SourceError(
                    f"{variable} is no address such as http://127.0.0.1:9000, without credentials"
                )
        kind: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[self.store]
        # Self-hosted stores may speak plain HTTP.
        options = {"connect_timeout": timedelta(seconds=10), "allow_http": True, **timeouts}
        with store_errors(self.address("")):
            return kind(self.name, client_options=options, retry_config={"max_retries": 5})

    def address(self, key: str) -> StoreAddress:
        """Return the address of a key."""
        return StoreAddress(self.name, key, self.store)

    def stored(self, key: str, size: int = UNKNOWN_SIZE, version: str = "") -> StoredObject:
        """Return an object; by its key alone, without a lookup."""
        return StoredObject(self.name, key, size, version, self.store)

    def _of(self, meta: ObjectMeta) -> StoredObject:
        return self.stored(meta["path"], meta["size"], _version(meta["e_tag"]))

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``, in byte order of keys."""
        # obstore takes whole folder names only.
        folder, _, name = prefix.rpartition("/")
        with store_errors(self.address(prefix)):
            pages = self._obstore.list(
                self._client, folder or None, offset=prefix[:-1] if name else None
            )
        # Azure accounts with folders list slashes first, others by bytes.
        end = f"{prefix}\U0010ffff".replace("/", "\0")
        while True:
            with store_errors(self.address(prefix)):
                page = _wait_for(lambda: next(pages, None))
            for entry in page or ():
                if entry["path"].startswith(prefix):
                    yield self._of(entry)
            if not page or page[-1]["path"].replace("/", "\0") > end:
                return

    def find(self, key: str) -> StoredObject | None:
        """Return the object of a key, if any."""
        with store_errors(self.address(key)):
            try:
                return self._of(_wait_for(lambda: self._obstore.head(self._client, key)))
            except Exception as error:
                # Listing gives a clear error, for example for a missing bucket.
                _wait_for(lambda: next(self._obstore.list(self._client, key), None))
                if is_missing(error):
                    return None
                raise

    def content(self, wanted: StoredObject, limit: int | None = None) -> bytes:
        """Return an object's content, at most ``limit`` bytes."""
        content = bytearray()
        for block in self._pieces(wanted):
            content += block
            if limit is not None and len(content) >= limit:
                break
        return bytes(content[:limit])

    def fetch(self, wanted: StoredObject, file: Path) -> None:
        """Write an object's content into a file atomically."""
        try:
            pieces = self._pieces(wanted)
        except FileNotFoundError as error:
            raise SourceError(f"{wanted.address} is gone", "Start again.") from error
        with atomic_file(file) as temporary, temporary.open("wb") as target:
            target.writelines(pieces)

    def _pieces(self, wanted: StoredObject) -> Iterator[bytes]:
        """Yield a content in pieces; obstore itself resumes interrupted downloads."""
        until = time.monotonic() + PATIENCE + max(0, wanted.size) / SLOWEST
        with store_errors(wanted.address):
            try:
                answer = _wait_for(lambda: self._obstore.get(self._client, wanted.key))
            except Exception as error:
                # Keys that obstore rejects do not exist.
                if not is_missing(error) and not isinstance(error, ValueError):
                    raise
                raise FileNotFoundError(
                    errno.ENOENT, "No such object", str(wanted.address)
                ) from error

        def pieces() -> Iterator[bytes]:
            problem = "broke off again and again"
            blocks = answer.stream(min_chunk_size=64 << 10)
            try:
                while (block := _wait_for(lambda: next(blocks, None))) is not None:
                    yield bytes(block)
                    if time.monotonic() > until:
                        problem = "comes too slowly"
                        raise TimeoutError
            except Exception as error:
                raise SourceError(
                    f"{wanted.address} {problem}",
                    "Check the network; the same command goes on where it was.",
                ) from error

        return pieces()

    def write(
        self, key: str, file: Path, replaces: StoredObject | None, digest: str
    ) -> StoredObject:
        """Write a file as one object, atomically."""
        address = self.address(key)
        try:
            with storage_errors(file), store_errors(address, writing=True):
                size = file.stat().st_size
                if size > _LARGEST[self.store]:
                    raise StorageError(
                        f"{address} would have {size >> 20:,} MiB, and an object may have "
                        f"{_LARGEST[self.store] >> 20:,}",
                        "Make it in parts: --shard.",
                    )
                version = self._send(key, file, size, replaces, digest)
        except StorageError as error:
            if not is_taken(error.__cause__):
                raise
            there = self.sent(key, digest)
            if there is not None:  # a retry after a lost answer
                return there
            raise StorageError(
                f"Another object was written to {address} meanwhile",
                "Give another name; what is done is kept.",
            ) from error
        return self.stored(key, size, version)

    def _send(
        self, key: str, file: Path, size: int, replaces: StoredObject | None, digest: str
    ) -> str:
        mode: Any = "create"
        if replaces is not None:
            try:
                there = _wait_for(lambda: self._obstore.head(self._client, key))
            except FileNotFoundError as error:
                raise self._obstore.exceptions.PreconditionError from error
            if self._of(there).version != replaces.version:
                raise self._obstore.exceptions.PreconditionError
            known = {"e_tag": there["e_tag"], "version": there["version"]}
            mode = {name: value for name, value in known.items() if value is not None}
        # The answer comes only after the whole upload.
        client = self._connect(timeout=timedelta(seconds=PATIENCE + size / SLOWEST))
        with file.open("rb") as stream:
            # Read lazily by the system.
            content: Any = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            result = _wait_for(
                lambda: self._obstore.put(
                    client, key, content, mode=mode, attributes={"sha256": digest},
                    use_multipart=False,
                )
            )  # fmt: skip
        return _version(result["e_tag"])

    def sent(self, key: str, digest: str) -> StoredObject | None:
        """Return the object if `write` made it from content with this SHA-256."""
        with store_errors(self.address(key), writing=True):
            answer = _wait_for(lambda: self._obstore.get(self._client, key, options={"head": True}))
            return self._of(answer.meta) if answer.attributes.get("sha256") == digest else None


def _version(tag: str | None) -> str:
    """Return an ETag without quotation marks, which Azure's lists omit."""
    return (tag or "").strip('"')


def _is_address(written: str) -> bool:
    """Whether obstore accepts this address; otherwise it would panic."""
    try:
        HttpUrl(written)
    except ValidationError:
        return False
    return written.isascii() and re.search(r"[\s@?#\\]", written) is None


def _wait_for(call: Callable[[], T]) -> T:
    """Return the result of a call of obstore; Ctrl-C interrupts the wait."""
    if os.getpid() != _PROCESS:  # it would hang in a fork
        raise SourceError(
            "This process was copied from one that uses the store (fork)",
            "Start processes by spawn: multiprocessing.set_start_method.",
        )
    if threading.current_thread() is not threading.main_thread():
        return call()
    return call_in_thread(call, name="opsin-store")
