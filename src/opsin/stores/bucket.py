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

#: Requests at the same time; a store takes some ten milliseconds for each.
CONNECTIONS: Final = 16
#: A content may take this many seconds, and one more for each so many bytes.
PATIENCE, SLOWEST = 120, 100_000
# Bytes of the largest file that stores take in one request, which alone can be conditional.
_LARGEST: Final = {"s3": 5 << 30, "gs": 5 << 40, "az": 5000 << 20}
_PROCESS: Final = os.getpid()


def open_bucket(where: StoreAddress | StoredObject) -> Bucket:
    """Return the bucket that something lies in, one for the process; the store is not asked yet."""
    # Credentials that were renewed in this process count from then on.
    settings = [item for item in os.environ.items() if item[0].startswith(("AWS", "GOOG", "AZUR"))]
    return _opened(where.store, where.bucket, hash(frozenset(settings)))


@functools.lru_cache(maxsize=8)
def _opened(store: Store, name: str, settings: int) -> Bucket:  # noqa: ARG001  what it depends on
    return Bucket(store, name)


class Bucket:
    """A bucket; several threads may use it. Credentials come from the environment."""

    def __init__(self, store: Store, name: str) -> None:
        try:
            import obstore  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingExtraError("sources on object stores", store) from error
        self.store: Store = store
        self.name = name
        self._obstore = obstore
        # `_pieces` sees to contents that come too slowly.
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
        # A store of one's own may speak plain HTTP.
        options = {"connect_timeout": timedelta(seconds=10), "allow_http": True, **timeouts}
        with store_errors(self.address("")):
            return kind(self.name, client_options=options, retry_config={"max_retries": 5})

    def address(self, key: str) -> StoreAddress:
        """Return the address of a key in it."""
        return StoreAddress(self.name, key, self.store)

    def stored(self, key: str, size: int = UNKNOWN_SIZE, version: str = "") -> StoredObject:
        """Return an object of it; where only its key is given, one that was not looked up."""
        return StoredObject(self.name, key, size, version, self.store)

    def _of(self, meta: ObjectMeta) -> StoredObject:
        return self.stored(meta["path"], meta["size"], _version(meta["e_tag"]))

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``, in the order of their keys' bytes."""
        # The library takes whole names of folders only.
        folder, _, name = prefix.rpartition("/")
        with store_errors(self.address(prefix)):
            pages = self._obstore.list(
                self._client, folder or None, offset=prefix[:-1] if name else None
            )
        # Azure's accounts with folders list slashes first, the others by bytes.
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
        """Return the object of a key; ``None`` where there is none."""
        with store_errors(self.address(key)):
            try:
                return self._of(_wait_for(lambda: self._obstore.head(self._client, key)))
            except Exception as error:
                # A list says in words what is wrong, such as that there is no bucket.
                _wait_for(lambda: next(self._obstore.list(self._client, key), None))
                if is_missing(error):
                    return None
                raise

    def content(self, wanted: StoredObject, limit: int | None = None) -> bytes:
        """Return an object's content, of which no more than ``limit`` bytes are wanted."""
        content = bytearray()
        for block in self._pieces(wanted):
            content += block
            if limit is not None and len(content) >= limit:
                break
        return bytes(content[:limit])

    def fetch(self, wanted: StoredObject, file: Path) -> None:
        """Write an object's content into a file, whole or not at all."""
        try:
            pieces = self._pieces(wanted)
        except FileNotFoundError as error:
            raise SourceError(f"{wanted.address} is gone", "Start again.") from error
        with atomic_file(file) as temporary, temporary.open("wb") as target:
            target.writelines(pieces)

    def _pieces(self, wanted: StoredObject) -> Iterator[bytes]:
        """Return a content in pieces; obstore itself goes on where it broke off."""
        until = time.monotonic() + PATIENCE + max(0, wanted.size) / SLOWEST
        with store_errors(wanted.address):
            try:
                answer = _wait_for(lambda: self._obstore.get(self._client, wanted.key))
            except Exception as error:
                # A key that the library does not ask for is none that is there.
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
        """Write a file as one object, which appears whole or not at all."""
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
            if there is not None:  # the answer to it got lost, and it was sent again
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
        # No answer comes before all is sent.
        client = self._connect(timeout=timedelta(seconds=PATIENCE + size / SLOWEST))
        with file.open("rb") as stream:
            # The system reads the file as it goes.
            content: Any = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            result = _wait_for(
                lambda: self._obstore.put(
                    client, key, content, mode=mode, attributes={"sha256": digest},
                    use_multipart=False,
                )
            )  # fmt: skip
        return _version(result["e_tag"])

    def sent(self, key: str, digest: str) -> StoredObject | None:
        """Return the object that is there, where `write` made it of a content with this SHA-256."""
        with store_errors(self.address(key), writing=True):
            answer = _wait_for(lambda: self._obstore.get(self._client, key, options={"head": True}))
            return self._of(answer.meta) if answer.attributes.get("sha256") == digest else None


def _version(tag: str | None) -> str:
    """Return an ETag without the quotation marks, which Azure's lists leave out."""
    return (tag or "").strip('"')


def _is_address(written: str) -> bool:
    """Tell whether the library can ask this address; it ends in a panic where it cannot."""
    try:
        HttpUrl(written)
    except ValidationError:
        return False
    return written.isascii() and re.search(r"[\s@?#\\]", written) is None


def _wait_for(call: Callable[[], T]) -> T:
    """Return what a call of obstore returns; Ctrl-C ends the wait for it."""
    if os.getpid() != _PROCESS:  # it would wait for ever
        raise SourceError(
            "This process was copied from one that uses the store (fork)",
            "Start processes by spawn: multiprocessing.set_start_method.",
        )
    if threading.current_thread() is not threading.main_thread():
        return call()
    return call_in_thread(call, name="opsin-store")
