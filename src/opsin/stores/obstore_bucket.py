"""A bucket of Google Cloud Storage, or a container of Azure Blob Storage."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opsin.core.errors import MissingExtraError
from opsin.stores.bucket import ATTEMPTS, BLOCK, CONNECT, SILENCE, Bucket
from opsin.stores.store_address import Store
from opsin.stores.store_errors import BrokenOffError, is_missing, store_errors
from opsin.stores.stored_object import StoredObject

if TYPE_CHECKING:
    from obstore import ObjectMeta

# Seconds that a file may take to be sent.
_SENDING = 3600


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
            self._reading = _client(store, name, read_timeout=timedelta(seconds=SILENCE))
            self._writing = _client(store, name)

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``."""
        # The library takes whole names of folders only.
        pages = self._obstore.list(self._reading, prefix=prefix.rpartition("/")[0] or None)
        while True:
            with store_errors(self.address(prefix)):
                page = next(pages, None)
            if page is None:
                return
            for each in page:
                if each["path"].startswith(prefix):
                    yield self._of(each)

    def level(self, prefix: str) -> Iterator[StoredObject | str]:
        """Yield what is right below ``prefix``; all of it is in memory at once."""
        with store_errors(self.address(prefix)):
            found = self._obstore.list_with_delimiter(
                self._reading, prefix=prefix.rstrip("/") or None
            )
        for each in found["objects"]:
            yield self._of(each)
        for name in found["common_prefixes"]:
            yield name.rpartition("/")[2]

    def find(self, key: str) -> StoredObject | None:
        """Return the object of a key."""
        with store_errors(self.address(key)):
            found = self._head(key)
        return None if found is None else self._of(found)

    def _head(self, key: str) -> ObjectMeta | None:
        try:
            return self._obstore.head(self._reading, key)
        except Exception as error:
            if is_missing(error):
                return None
            raise

    def _of(self, found: ObjectMeta) -> StoredObject:
        version = _version(found["e_tag"])
        return StoredObject(self.name, found["path"], found["size"], version, self.store)

    def _body(self, wanted: StoredObject, start: int, limit: int | None) -> Iterator[bytes]:
        if limit == 0:
            return
        asked: Any = {}
        if start:
            asked = {"range": {"offset": start}, "if_match": f'"{wanted.version}"'}
        answer = self._obstore.get(self._reading, wanted.key, options=asked)
        left = limit
        with _arriving():
            for block in answer.stream(min_chunk_size=BLOCK):
                part = bytes(block) if left is None else bytes(block)[:left]
                yield part
                left = None if left is None else left - len(part)
                if left == 0:
                    return

    def _send(self, key: str, file: Path, replaces: StoredObject | None, digest: str) -> str:
        mode: Any = "create"
        if replaces is not None:
            there = self._head(key)
            if there is None or self._of(there).version != replaces.version:
                raise self._obstore.exceptions.PreconditionError
            known = {"e_tag": there["e_tag"], "version": there["version"]}
            mode = {name: value for name, value in known.items() if value is not None}
        with file.open("rb") as stream:
            # One request, which alone can be conditional; the system reads the file as it goes.
            content: Any = b""
            if file.stat().st_size:
                content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            told = self._obstore.put(
                self._writing, key, content, mode=mode, attributes={"sha256": digest},
                use_multipart=False,
            )  # fmt: skip
        return _version(told["e_tag"])

    def sent(self, key: str, digest: str) -> StoredObject | None:
        """Return the object that `write` made of this content."""
        with store_errors(self.address(key), writing=True):
            found = self._obstore.get(self._reading, key)
            return self._of(found.meta) if found.attributes.get("sha256") == digest else None


def _version(tag: str | None) -> str:
    """Return an ETag without the quotation marks, which Azure's lists leave out."""
    return (tag or "").strip('"')


def _client(store: Store, name: str, **timeouts: timedelta) -> Any:
    """Return obstore's client of a bucket."""
    from obstore.store import AzureStore, GCSStore  # noqa: PLC0415  an extra

    options: Any = {
        "connect_timeout": timedelta(seconds=CONNECT),
        "timeout": timedelta(seconds=_SENDING),
        "allow_http": True,  # a store of one's own
    }
    return (GCSStore if store == "gs" else AzureStore)(
        name, client_options=options | timeouts, retry_config={"max_retries": ATTEMPTS - 1}
    )


@contextmanager
def _arriving() -> Iterator[None]:
    """Tell a content that does not arrive whole from a store that refuses it."""
    try:
        yield
    except Exception as error:
        raise BrokenOffError(type(error).__name__) from error
