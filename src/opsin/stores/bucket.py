"""A bucket of an object store: listed, read and written.

Signing, credentials, retries and their back-off are those of the libraries that speak to stores.
"""

from __future__ import annotations

import errno
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opsin.core.errors import SourceError, StorageError
from opsin.core.storage import atomic_file, storage_errors
from opsin.stores.store_address import Store, StoreAddress
from opsin.stores.store_errors import BrokenOffError, is_missing, is_taken, store_errors
from opsin.stores.stored_object import UNKNOWN_SIZE, StoredObject

#: Requests at the same time; a store takes some ten milliseconds for each.
CONNECTIONS: Final = 16
#: Seconds until a connection stands, and of silence on one.
CONNECT: Final = 10
SILENCE: Final = 30
#: How often a request is made in all, with waits of up to 20 seconds between.
ATTEMPTS: Final = 6
#: Bytes of a content that are read at once.
BLOCK: Final = 1 << 20
# How often a content that broke off is asked for again, and the seconds to wait before that.
_TRIES: Final = 4
_WAIT: Final = 0.5
#: A content may take this many seconds, and one more for each so many bytes.
PATIENCE: Final = 120
SLOWEST: Final = 100_000


class Bucket(ABC):
    """A bucket; several threads may use it.

    Args:
        store: Which store it is on.
        name: Its name.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store: Store = store
        self.name = name

    def address(self, key: str) -> StoreAddress:
        """Return the address of a key in it."""
        return StoreAddress(self.name, key, self.store)

    def stored(self, key: str, size: int = UNKNOWN_SIZE, version: str = "") -> StoredObject:
        """Return an object of it; where only its key is given, one that was not looked up."""
        return StoredObject(self.name, key, size, version, self.store)

    @abstractmethod
    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``, in the order of their keys' bytes.

        A thousand are in memory at a time.

        Raises:
            SourceError: The store does not list them.
        """

    @abstractmethod
    def level(self, prefix: str) -> Iterator[StoredObject | str]:
        """Yield the objects right below ``prefix``, and what folders would be called there.

        Raises:
            SourceError: The store does not list them.
        """

    @abstractmethod
    def find(self, key: str) -> StoredObject | None:
        """Return the object of a key; ``None`` where there is none.

        Raises:
            SourceError: The store does not say.
        """

    @abstractmethod
    def sent(self, key: str, digest: str) -> StoredObject | None:
        """Return the object that is there, where `write` made it of this content.

        Args:
            key: Its key.
            digest: SHA-256 of the content.

        Raises:
            StorageError: The store does not say.
        """

    @abstractmethod
    def _body(self, wanted: StoredObject, start: int) -> Iterator[bytes]:
        """Yield a content in blocks from ``start``, of the same version if that is not 0."""

    @abstractmethod
    def _send(self, key: str, file: Path, replaces: StoredObject | None, digest: str) -> str:
        """Write a file as one object, and return its version."""

    def content(self, wanted: StoredObject, limit: int | None = None) -> bytes:
        """Return an object's content, of which no more than ``limit`` bytes are wanted.

        What breaks off is asked for again, a few times.

        Raises:
            FileNotFoundError: It is not there any more.
            SourceError: The store does not give it.
        """
        content = bytearray()
        for block in self._blocks(wanted, limit, whole=False):
            if block is None:  # it is there anew, so from the beginning
                content.clear()
            else:
                content += block
        return bytes(content)

    def fetch(self, wanted: StoredObject, file: Path) -> None:
        """Write an object's content into a file, whole or not at all.

        What breaks off goes on from there, a few times for each piece that arrived.

        Raises:
            SourceError: It is not there any more, or the store does not give it.
            StorageError: The disk refuses the write.
        """
        try:
            with atomic_file(file) as temporary, temporary.open("wb") as target:
                for block in self._blocks(wanted, None, whole=True):
                    if block is not None:
                        target.write(block)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError) and error.__cause__.filename == str(
                wanted.address
            ):
                raise SourceError(
                    "an object that stays as it is", f"{wanted.address} is gone", "Start again."
                ) from error
            raise

    def write(
        self, key: str, file: Path, replaces: StoredObject | None, digest: str
    ) -> StoredObject:
        """Write a file as one object, which appears whole or not at all.

        Args:
            key: Its key.
            file: The content.
            replaces: The object that is replaced; ``None``: there is none, and none may be.
            digest: SHA-256 of the content, which the object says of itself.

        Raises:
            StorageError: Another object has appeared there, or the store refuses the write.
        """
        address = self.address(key)
        try:
            with storage_errors(file):
                size = file.stat().st_size
                with store_errors(address, writing=True):
                    version = self._send(key, file, replaces, digest)
        except StorageError as error:
            there = self.sent(key, digest) if is_taken(error.__cause__) else None
            if there is not None:  # the answer to it got lost, and it was sent again
                return there
            if is_taken(error.__cause__):
                raise StorageError(
                    "an object that no other command writes to",
                    f"another one was written to {address} meanwhile",
                    "Give another name; what is done is kept.",
                ) from error
            raise
        return self.stored(key, size, version)

    def _blocks(
        self, wanted: StoredObject, limit: int | None, *, whole: bool
    ) -> Iterator[bytes | None]:
        """Yield a content in blocks; ``None`` where it begins anew.

        Args:
            wanted: The object.
            limit: Bytes that are wanted.
            whole: Go on where it broke off, for the same version only.
        """
        done, tries = 0, _TRIES
        until = time.monotonic() + PATIENCE + max(0, wanted.size) / SLOWEST
        while True:
            try:
                with store_errors(wanted.address):
                    for block in self._there(wanted, done if whole else 0, limit):
                        yield block
                        done, tries = done + len(block), _TRIES if whole else tries
                        if time.monotonic() > until:
                            raise _slow(wanted.address)
            except BrokenOffError as error:
                tries -= 1
                if not tries or time.monotonic() > until:
                    raise _broken_off(wanted.address) from error
            else:
                return
            if not whole:
                done = 0
                yield None
            time.sleep(_WAIT * 2 ** (_TRIES - tries))

    def _there(self, wanted: StoredObject, start: int, limit: int | None) -> Iterator[bytes]:
        """Yield `_body` up to ``limit``, and say in Python's words that there is no such object."""
        try:
            for block in self._body(wanted, start):
                yield block[:limit]
                if limit is not None:
                    limit -= len(block)
                    if limit <= 0:
                        return
        except Exception as error:
            if is_missing(error):
                raise FileNotFoundError(
                    errno.ENOENT, "No such object", str(wanted.address)
                ) from error
            raise


def _slow(address: StoreAddress) -> SourceError:
    return SourceError(
        "a store that sends what is asked for",
        f"{address} comes too slowly",
        "See to the network; the same command goes on where it was.",
    )


def _broken_off(address: StoreAddress) -> SourceError:
    return SourceError(
        "a store that sends what it announced",
        f"{address} broke off {_TRIES} times",
        "See to the network; the same command goes on where it was.",
    )
