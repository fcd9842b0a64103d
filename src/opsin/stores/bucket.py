"""A bucket of an S3-compatible store: listed, read and written.

Signing, credentials, retries and their back-off are botocore's.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from opsin.core.errors import MissingExtraError, SourceError, StorageError
from opsin.core.storage import atomic_file, storage_errors
from opsin.stores.store_address import StoreAddress
from opsin.stores.store_errors import BrokenOffError, is_missing, is_taken, store_errors
from opsin.stores.stored_object import StoredObject

#: Requests at the same time; a store takes some ten milliseconds for each.
CONNECTIONS: Final = 16
# Seconds until a connection stands, and of silence on one.
_CONNECT: Final = 10
_SILENCE: Final = 30
# How often a request is made in all, with waits of up to 20 seconds between; AWS_MAX_ATTEMPTS says
# otherwise.
_ATTEMPTS: Final = 6
# How often a content that broke off is asked for again, and the seconds to wait before that.
_TRIES: Final = 4
_WAIT: Final = 0.5
# A content may take this many seconds, and one more for each so many bytes.
_PATIENCE: Final = 120
_SLOWEST: Final = 100_000
_BLOCK: Final = 1 << 20
# Larger files are sent in parts of this size, or larger ones: a store takes 10,000 of them.
_PART: Final = 64 << 20
_MOST_PARTS: Final = 10_000


def open_bucket(name: str) -> Bucket:
    """Return a bucket, one for the process; nothing is asked of the store yet.

    Raises:
        MissingExtraError: botocore is not installed.
        SourceError: The configuration of this account cannot work.
    """
    # Credentials that were renewed in this process count from then on.
    return _opened(name, hash(frozenset(each for each in os.environ.items() if "AWS" in each[0])))


@functools.lru_cache(maxsize=8)
def _opened(name: str, environment: int) -> Bucket:  # noqa: ARG001  what the result depends on
    return Bucket(name)


class Bucket:
    """A bucket; several threads may use it.

    Credentials, region and address of the store come from the environment and the usual files of
    the AWS tools (``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` …). Without credentials, requests are not
    signed, as public buckets allow.

    Args:
        name: Its name.

    Raises:
        MissingExtraError: botocore is not installed.
        SourceError: The configuration cannot work.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._client: Any
        with store_errors(StoreAddress(name, "")):
            self._client = _client()

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``, in the order of their keys' bytes.

        A thousand are in memory at a time.

        Raises:
            SourceError: The store does not list them.
        """
        for page in self._pages(prefix):
            yield from self._of(page)

    def level(self, prefix: str) -> Iterator[StoredObject | str]:
        """Yield the objects right below ``prefix``, and what folders would be called there.

        The order is that of the keys' bytes within each thousand.

        Raises:
            SourceError: The store does not list them.
        """
        for page in self._pages(prefix, Delimiter="/"):
            yield from self._of(page)
            for each in page.get("CommonPrefixes", ()):
                yield each["Prefix"][len(prefix) : -1]

    def find(self, key: str) -> StoredObject | None:
        """Return the object of a key; ``None`` where there is none.

        Raises:
            SourceError: The store does not say.
        """
        # The list says in words what is wrong, and the answer to HEAD has no words.
        with store_errors(StoreAddress(self.name, key)):
            page = self._client.list_objects_v2(Bucket=self.name, Prefix=key, MaxKeys=1)
        return next((each for each in self._of(page) if each.key == key), None)

    def _pages(self, prefix: str, **more: str) -> Iterator[Any]:
        asked: dict[str, str] = {"Bucket": self.name, "Prefix": prefix, **more}
        while True:
            with store_errors(StoreAddress(self.name, prefix)):
                page: Any = self._client.list_objects_v2(**asked)
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _of(self, page: Any) -> Iterator[StoredObject]:
        for each in page.get("Contents", ()):
            yield StoredObject(self.name, each["Key"], each["Size"], each["ETag"])

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
        until = time.monotonic() + _PATIENCE + max(0, wanted.size) / _SLOWEST
        while True:
            try:
                with store_errors(wanted.address):
                    for block in self._body(wanted, done if whole else 0, limit):
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

    def _body(self, wanted: StoredObject, start: int, limit: int | None) -> Iterator[bytes]:
        asked = {"Bucket": self.name, "Key": wanted.key}
        if start:
            asked |= {"Range": f"bytes={start}-", "IfMatch": wanted.version}
        try:
            answer = self._client.get_object(**asked)
        except Exception as error:
            if is_missing(error):
                raise FileNotFoundError(
                    errno.ENOENT, "No such object", str(wanted.address)
                ) from error
            raise
        with contextlib.closing(answer["Body"]) as body, _arriving():
            while limit is None or limit > 0:
                block = body.read(_BLOCK if limit is None else min(_BLOCK, limit))
                if not block:  # its length is as was announced
                    return
                yield block
                limit = None if limit is None else limit - len(block)

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
        address = StoreAddress(self.name, key)
        only: dict[str, str] = {"IfNoneMatch": "*"}
        if replaces is not None:
            only = {"IfMatch": replaces.version}
        about = {"Bucket": self.name, "Key": key}
        try:
            with storage_errors(file), file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                with store_errors(address, writing=True):
                    if size <= _PART:
                        told = self._client.put_object(
                            **about, **only, Body=stream, Metadata={"sha256": digest}
                        )
                    else:
                        told = self._write_parts(about, only, stream, size, digest)
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
        return StoredObject(self.name, key, size, told["ETag"])

    def sent(self, key: str, digest: str) -> StoredObject | None:
        """Return the object that is there, where `write` made it of this content.

        Args:
            key: Its key.
            digest: SHA-256 of the content.

        Raises:
            StorageError: The store does not say.
        """
        with store_errors(StoreAddress(self.name, key), writing=True):
            told = self._client.head_object(Bucket=self.name, Key=key)
        if told["Metadata"].get("sha256") != digest:
            return None
        return StoredObject(self.name, key, told["ContentLength"], told["ETag"])

    def _write_parts(
        self, about: dict[str, str], only: dict[str, str], stream: BinaryIO, size: int, digest: str
    ) -> Any:
        """Send a large file in parts; they become an object when all have arrived."""
        begun = self._client.create_multipart_upload(**about, Metadata={"sha256": digest})
        upload = about | {"UploadId": begun["UploadId"]}
        length = max(_PART, -(-size // _MOST_PARTS))
        parts: list[Any] = []
        try:
            while content := stream.read(length):
                number = len(parts) + 1
                told = self._client.upload_part(**upload, PartNumber=number, Body=content)
                sums = {name: told[name] for name in told if name.startswith("Checksum")}
                sums.pop("ChecksumType", None)
                parts.append({"ETag": told["ETag"], "PartNumber": number, **sums})
            done = self._client.complete_multipart_upload(
                **upload, **only, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong first is what is said
                self._client.abort_multipart_upload(**upload)
            raise
        return done


def _client() -> Any:
    """Return botocore's client."""
    try:
        from botocore import UNSIGNED  # noqa: PLC0415  an extra
        from botocore.config import Config  # noqa: PLC0415
        from botocore.session import get_session  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("sources on object stores", "s3") from error
    session = get_session()
    attempts = session.get_config_variable("max_attempts") or _ATTEMPTS
    signed = session.get_credentials() is not None
    return session.create_client(
        "s3",
        region_name=os.environ.get("AWS_REGION")
        or session.get_config_variable("region")
        or "us-east-1",
        config=Config(
            connect_timeout=_CONNECT,
            read_timeout=_SILENCE,
            max_pool_connections=CONNECTIONS,
            retries={"total_max_attempts": attempts},
            signature_version=None if signed else UNSIGNED,
        ),
    )


@contextlib.contextmanager
def _arriving() -> Iterator[None]:
    """Tell a content that does not arrive whole from a store that refuses it."""
    from botocore import exceptions as told  # noqa: PLC0415  an extra

    try:
        yield
    except (told.HTTPClientError, told.IncompleteReadError, told.FlexibleChecksumError) as error:
        raise BrokenOffError(str(error)) from error


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
