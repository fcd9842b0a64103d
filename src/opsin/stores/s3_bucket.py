"""A bucket of S3, or of a store that speaks its protocol."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from opsin.core.errors import MissingExtraError
from opsin.stores.bucket import ATTEMPTS, BLOCK, CONNECT, CONNECTIONS, SILENCE, Bucket
from opsin.stores.store_address import StoreAddress
from opsin.stores.store_errors import BrokenOffError, store_errors
from opsin.stores.stored_object import StoredObject

# Larger files are sent in parts of this size, or larger ones: a store takes 10,000 of them.
_PART: Final = 64 << 20
_MOST_PARTS: Final = 10_000


class S3Bucket(Bucket):
    """A bucket of S3.

    Credentials, region and address of the store come from the environment and the usual files of
    the AWS tools (``AWS_PROFILE``, ``AWS_ENDPOINT_URL`` …), and ``AWS_MAX_ATTEMPTS`` says how often
    a request is made. Without credentials, requests are not signed, as public buckets allow.

    Args:
        name: Its name.

    Raises:
        MissingExtraError: botocore is not installed.
        SourceError: The configuration cannot work.
    """

    def __init__(self, name: str) -> None:
        super().__init__("s3", name)
        self._client: Any
        with store_errors(StoreAddress(name, "")):
            self._client = _client()

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with ``prefix``."""
        for page in self._pages(prefix):
            yield from self._of(page)

    def level(self, prefix: str) -> Iterator[StoredObject | str]:
        """Yield what is right below ``prefix``, in order within each thousand."""
        for page in self._pages(prefix, Delimiter="/"):
            yield from self._of(page)
            for each in page.get("CommonPrefixes", ()):
                yield each["Prefix"][len(prefix) : -1]

    def find(self, key: str) -> StoredObject | None:
        """Return the object of a key."""
        # The list says in words what is wrong, and the answer to HEAD has no words.
        with store_errors(self.address(key)):
            page = self._client.list_objects_v2(Bucket=self.name, Prefix=key, MaxKeys=1)
        return next((each for each in self._of(page) if each.key == key), None)

    def _pages(self, prefix: str, **more: str) -> Iterator[Any]:
        asked: dict[str, str] = {"Bucket": self.name, "Prefix": prefix, **more}
        while True:
            with store_errors(self.address(prefix)):
                page: Any = self._client.list_objects_v2(**asked)
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _of(self, page: Any) -> Iterator[StoredObject]:
        for each in page.get("Contents", ()):
            yield self.stored(each["Key"], each["Size"], each["ETag"])

    def _body(self, wanted: StoredObject, start: int) -> Iterator[bytes]:
        asked = {"Bucket": self.name, "Key": wanted.key}
        if start:
            asked |= {"Range": f"bytes={start}-", "IfMatch": wanted.version}
        answer = self._client.get_object(**asked)
        with contextlib.closing(answer["Body"]) as body, _arriving():
            while block := body.read(BLOCK):  # its length is as was announced
                yield block

    def _send(self, key: str, file: Path, replaces: StoredObject | None, digest: str) -> str:
        only: dict[str, str] = {"IfNoneMatch": "*"}
        if replaces is not None:
            only = {"IfMatch": replaces.version}
        about = {"Bucket": self.name, "Key": key}
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size <= _PART:
                told = self._client.put_object(
                    **about, **only, Body=stream, Metadata={"sha256": digest}
                )
            else:
                told = self._send_parts(about, only, stream, size, digest)
        return str(told["ETag"])

    def sent(self, key: str, digest: str) -> StoredObject | None:
        """Return the object that `write` made of this content."""
        with store_errors(self.address(key), writing=True):
            told = self._client.head_object(Bucket=self.name, Key=key)
        if told["Metadata"].get("sha256") != digest:
            return None
        return self.stored(key, told["ContentLength"], told["ETag"])

    def _send_parts(
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
    attempts = session.get_config_variable("max_attempts") or ATTEMPTS
    signed = session.get_credentials() is not None
    return session.create_client(
        "s3",
        region_name=os.environ.get("AWS_REGION")
        or session.get_config_variable("region")
        or "us-east-1",
        config=Config(
            connect_timeout=CONNECT,
            read_timeout=SILENCE,
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
