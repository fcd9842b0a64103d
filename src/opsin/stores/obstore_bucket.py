"""A bucket of Google Cloud Storage, or a container of Azure Blob Storage."""

from __future__ import annotations

import mmap
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import HttpUrl, ValidationError

from opsin.core.call_in_thread import call_in_thread
from opsin.core.errors import MissingExtraError, SourceError, StorageError
from opsin.stores.bucket import ATTEMPTS, CONNECT, PATIENCE, SILENCE, SLOWEST, Bucket
from opsin.stores.store_address import ADDRESSES, Store
from opsin.stores.store_errors import BrokenOffError, is_missing, store_errors
from opsin.stores.stored_object import StoredObject

if TYPE_CHECKING:
    from obstore import ObjectMeta

T = TypeVar("T")

# Bytes of the largest file that Azure takes in one request, which alone can be conditional.
_LARGEST: Final = 5000 << 20
# Bytes of a content that are handed on at once: after each it is seen whether it comes too slowly.
_PIECE: Final = 64 << 10
_PROCESS: Final = os.getpid()


class ObstoreBucket(Bucket):
    """A bucket that obstore speaks to.

    Credentials come from the environment and where the tools of Google and Azure leave them
    (``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_STORAGE_ACCOUNT_NAME`` …).

    Args:
        store: Google's or Azure's.
        name: Its name.

    Raises:
        MissingExtraError: obstore is not installed.
        SourceError: The configuration cannot work.
    """

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name)
        try:
            import obstore  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingExtraError("sources on object stores", store) from error
        self._obstore = obstore
        with store_errors(self.address("")):
            # `_blocks` sees to contents that come too slowly.
            self._client = _client(
                store, name, timeout=timedelta(hours=1), read_timeout=timedelta(seconds=SILENCE)
            )

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``."""
        # The library takes whole names of folders only.
        folder, _, name = prefix.rpartition("/")
        with store_errors(self.address(prefix)):
            pages = self._obstore.list(
                self._client, folder or None, offset=prefix[:-1] if name else None
            )
        while True:
            with store_errors(self.address(prefix)):
                page = _wait_for(lambda: next(pages, None))
            for each in page or ():
                if each["path"].startswith(prefix):
                    yield self._of(each)
            # Azure's accounts with folders list slashes first, the others by bytes.
            if not page or _slashes_first(page[-1]["path"]) > _slashes_first(f"{prefix}\U0010ffff"):
                return

    def level(self, prefix: str) -> Iterator[StoredObject | str]:
        """Yield what is right below ``prefix``; all of it is in memory at once."""
        folder = prefix.removesuffix("/") or None
        with store_errors(self.address(prefix)):
            found = _wait_for(lambda: self._obstore.list_with_delimiter(self._client, folder))
        for each in found["objects"]:
            yield self._of(each)
        for name in found["common_prefixes"]:
            yield name.rpartition("/")[2]

    def find(self, key: str) -> StoredObject | None:
        """Return the object of a key."""
        with store_errors(self.address(key)):
            found = self._head(key)
            if found is None:  # or there is no such bucket, which a list says
                _wait_for(lambda: next(self._obstore.list(self._client, key), None))
        return None if found is None else self._of(found)

    def _head(self, key: str) -> ObjectMeta | None:
        try:
            found: ObjectMeta = _wait_for(lambda: self._obstore.head(self._client, key))
        except Exception as error:
            if is_missing(error):
                return None
            raise
        return found

    def _of(self, found: ObjectMeta) -> StoredObject:
        return self.stored(found["path"], found["size"], _version(found["e_tag"]))

    def _body(self, wanted: StoredObject, start: int) -> Iterator[bytes]:
        asked: Any = {}
        if start:
            asked = {"range": {"offset": start}, "if_match": f'"{wanted.version}"'}
        try:
            answer = _wait_for(lambda: self._obstore.get(self._client, wanted.key, options=asked))
        except ValueError as error:  # a key that the library does not ask for
            raise FileNotFoundError from error
        blocks = answer.stream(min_chunk_size=_PIECE)
        with _arriving():
            while (block := _wait_for(lambda: next(blocks, None))) is not None:
                yield bytes(block)

    def _send(self, key: str, file: Path, replaces: StoredObject | None, digest: str) -> str:
        size, mode = file.stat().st_size, self._only(key, replaces)
        if self.store == "az" and size > _LARGEST:
            raise StorageError(
                f"a file of at most {_LARGEST >> 20:,} MiB for one object of Azure",
                f"{self.address(key)} has {size >> 20:,}",
                "Make it in parts: --shard.",
            )
        # No answer comes before all is sent.
        client = _client(
            self.store, self.name, timeout=timedelta(seconds=PATIENCE + size / SLOWEST)
        )
        with file.open("rb") as stream:
            # The system reads the file as it goes.
            content: Any = b""
            if size:
                content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            told = _wait_for(
                lambda: self._obstore.put(
                    client, key, content, mode=mode, attributes={"sha256": digest},
                    use_multipart=False,
                )
            )  # fmt: skip
        return _version(told["e_tag"])

    def _only(self, key: str, replaces: StoredObject | None) -> Any:
        """Return on which condition an object is written."""
        if replaces is None:
            return "create"
        there = self._head(key)
        if there is None or self._of(there).version != replaces.version:
            raise self._obstore.exceptions.PreconditionError
        known = {"e_tag": there["e_tag"], "version": there["version"]}
        return {name: value for name, value in known.items() if value is not None}

    def sent(self, key: str, digest: str) -> StoredObject | None:
        """Return the object that `write` made of this content."""
        with store_errors(self.address(key), writing=True):
            found = _wait_for(lambda: self._obstore.get(self._client, key, options={"head": True}))
            return self._of(found.meta) if found.attributes.get("sha256") == digest else None


def _slashes_first(key: str) -> str:
    return key.replace("/", "\0")


def _version(tag: str | None) -> str:
    """Return an ETag without the quotation marks, which Azure's lists leave out."""
    return (tag or "").strip('"')


def _client(store: Store, name: str, **timeouts: timedelta) -> Any:
    """Return obstore's client of a bucket."""
    from obstore.store import AzureStore, GCSStore  # noqa: PLC0415  an extra

    for variable in ADDRESSES[store]:
        written = os.environ.get(variable)
        if written and not _is_address(written):
            raise SourceError(
                "the address of a store, such as http://127.0.0.1:9000, without credentials",
                f"{variable} is none",
                "Set it, or remove it.",
            )
    options: Any = {
        "connect_timeout": timedelta(seconds=CONNECT),
        "allow_http": True,  # a store of one's own
    }
    return (GCSStore if store == "gs" else AzureStore)(
        name, client_options=options | timeouts, retry_config={"max_retries": ATTEMPTS - 1}
    )


def _is_address(written: str) -> bool:
    """Tell whether the library can ask this address, which ends in a panic where it cannot."""
    try:
        HttpUrl(written)
    except ValidationError:
        return False
    return written.isascii() and re.search(r"[\s@?#\\]", written) is None


def _wait_for(call: Callable[[], T]) -> T:
    """Return what a call of obstore returns; Ctrl-C ends the wait for it.

    Raises:
        SourceError: The process is a copy of one that used obstore, where it would wait for ever.
        Exception: What the call has raised.
    """
    if os.getpid() != _PROCESS:
        raise SourceError(
            "a process that was not copied from one that uses the store",
            "this one was (fork)",
            "Start processes by spawn: multiprocessing.set_start_method.",
        )
    if threading.current_thread() is not threading.main_thread():
        return call()
    return call_in_thread(call, name="opsin-store")


@contextmanager
def _arriving() -> Iterator[None]:
    """Tell a content that does not arrive whole from a store that refuses it."""
    try:
        yield
    except Exception as error:
        raise BrokenOffError(type(error).__name__) from error
