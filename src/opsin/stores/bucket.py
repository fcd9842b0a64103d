"""Object stores: addresses, and buckets listed, read and written by obstore.

Errors are one line with advice. Texts of stores and credential programs are never shown: they may
contain secrets.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, get_args

from opsin.core.child_process import call_in_thread
from opsin.core.errors import MissingExtraError, OpsinError, RecipeError, SourceError, StorageError
from opsin.core.storage import atomic_file, storage_errors

if TYPE_CHECKING:
    from obstore import ObjectMeta

T = TypeVar("T")

#: S3 and compatible stores, Google Cloud Storage, and Azure Blob Storage.
Store = Literal["s3", "gs", "az"]
#: Environment variables with the endpoint of a self-hosted store.
ADDRESSES: Final[dict[Store, tuple[str, ...]]] = {
    "s3": ("AWS_ENDPOINT_URL",),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
#: Environment variable with the Azure account of a container.
AZURE_ACCOUNT: Final = "AZURE_STORAGE_ACCOUNT_NAME"
#: The size of an object before lookup.
UNKNOWN_SIZE: Final = -1
# A `Path` turns two slashes into one.
_ADDRESS: Final = re.compile(r"(s3|gs|az|abfss?):/{1,2}([^/]*)(?:/(.*))?", re.DOTALL)
# Others make obstore panic, or hold a login.
_ENDPOINT: Final = re.compile(
    r"https?://(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?(?:/[^@?#\\\s]*)?"
)
_BUCKET: Final = re.compile(r"[A-Za-z0-9$_][A-Za-z0-9._-]*")
#: Concurrent requests; each takes some ten milliseconds.
CONNECTIONS: Final = 16
#: A transfer may take this many seconds, plus one for each so many bytes.
PATIENCE, SLOWEST = 120, 100_000
_PROCESS: Final = os.getpid()

# Codes of obstore's classes; a store's own code, if any, is more specific.
_CLASSES: Final = {
    "AlreadyExistsError": "409", "FileNotFoundError": "404", "InvalidPathError": "InvalidPath",
    "PermissionDeniedError": "403", "PreconditionError": "412", "UnauthenticatedError": "401",
}  # fmt: skip
_MISSING: Final = ("NoSuchKey", "NoSuchVersion", "BlobNotFound", "404")
_TAKEN: Final = ("PreconditionFailed", "ConditionalRequestConflict", "409", "412")
_CODE: Final = re.compile(r"<Code>([A-Za-z]+)</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
# obstore's messages about missing or unusable credentials.
_SETTINGS: Final = re.compile(
    r"\bsource: (DecodeCredentials|DecodeKey|InvalidAccessKey|Missing\w+|OpenCredentials|"
    r"TokenRequest|UnableToParse\w+|Token\w*)\b|\bstore: \"Config\"|169\.254\.169\.254"
)
_CREDENTIALS: Final[dict[Store, str]] = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (aws configure export-credentials prints "
    "those of a profile; AWS_SKIP_SIGNATURE=true for a public bucket)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS (GOOGLE_SKIP_SIGNATURE=true for a public bucket)",
    "az": f"{AZURE_ACCOUNT} and AZURE_STORAGE_ACCOUNT_KEY, or the role of this machine",
}
# Message and advice by the store's error codes.
_REFUSED: Final = {
    "NoSuchBucket ContainerNotFound 404": (
        "There is no bucket {bucket}", "Check its name, and {endpoint} for a store of your own.",
    ),
    "ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired": (
        "The credentials for {address} have expired",
        "Renew them; the same command goes on where it was.",
    ),
    "InvalidAccessKeyId SignatureDoesNotMatch InvalidToken InvalidClientTokenId 401 settings": (
        "The credentials or settings for {address} cannot be used",
        "Check {credentials}.",
    ),
    "AccessDenied AllAccessDisabled AccountProblem 403": (
        "You have no right to {verb} {address}", "Ask for it, or use other credentials.",
    ),
    "PermanentRedirect AuthorizationHeaderMalformed 301 307": (
        "The bucket {bucket} is in another region ({code})", "Set AWS_REGION, or AWS_ENDPOINT_URL.",
    ),
    "SlowDown ServiceUnavailable InternalError RequestTimeout TooManyRequests 429 500 502 503 504":
    (
        "{address} was refused again and again ({code})",
        "Try later; the same command goes on where it was.",
    ),
    "": (
        "{address} got no answer",
        "Check the network and {endpoint}; the same command goes on where it was.",
    ),
    "InvalidPath": (
        "There are keys at or below {address} such as a//b or ../a, without a name between slashes",
        "Rename them.",
    ),
}  # fmt: skip
_OTHERWISE: Final = ("{address} was answered with {code}", "Look it up in the store's manual.")


def is_stored(written: str | os.PathLike[str]) -> bool:
    """Whether this is an address on an object store."""
    return _ADDRESS.fullmatch(os.fspath(written)) is not None


@dataclass(frozen=True)
class StoreAddress(os.PathLike[str]):
    """A bucket (on Azure, a container), and a key or a prefix of keys."""

    bucket: str
    key: str
    store: Store = "s3"

    @classmethod
    def read(cls, written: str | os.PathLike[str]) -> StoreAddress:
        """Parse the user's text; `RecipeError` if it is not a valid address."""
        text = os.fspath(written)
        match = _ADDRESS.fullmatch(text)
        if match is None or not match[2]:
            raise RecipeError(f"{text!r} is no address such as s3://bucket/photos")
        if match[1] not in get_args(Store):
            raise RecipeError(
                f"{text!r} does not begin with s3://, gs:// or az://",
                f"Azure: az://container/photos, with {AZURE_ACCOUNT}.",
            )
        address = cls(match[2], match[3] or "", cast("Store", match[1]))
        control = re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", address.key)
        names = address.key.removesuffix("/").split("/") if address.key else ["-"]
        if control or {"", ".", ".."}.intersection(names) or not _BUCKET.fullmatch(match[2]):
            raise RecipeError(f"{text!r} has no bucket, or a key without a name between slashes")
        return address

    def __str__(self) -> str:
        return f"{self.store}://{self.bucket}/{self.key}"

    __fspath__ = __str__

    @property
    def name(self) -> str:
        """What follows the key's last slash."""
        return self.key.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The prefix of the keys below this one, as of files in a folder."""
        return self.key if not self.key or self.key.endswith("/") else f"{self.key}/"

    def beside(self, name: str) -> StoreAddress:
        """Return the address of another key in the same folder."""
        return replace(self, key=f"{self.key[: len(self.key) - len(self.name)]}{name}")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object without its content; there may be millions."""

    bucket: str
    key: str
    size: int
    version: str
    store: Store = "s3"

    @property
    def address(self) -> StoreAddress:
        """Its address."""
        return StoreAddress(self.bucket, self.key, self.store)


def open_bucket(where: StoreAddress | StoredObject) -> Bucket:
    """Return the bucket of an address, cached in the process; sends no request."""
    # Renewed credentials in this process take effect.
    settings = [item for item in os.environ.items() if item[0].startswith(("AWS", "GOOG", "AZUR"))]
    return _opened(where.store, where.bucket, hash(frozenset(settings)))


class Bucket:
    """A bucket, safe for threads. Credentials come from the environment."""

    def __init__(self, store: Store, name: str) -> None:
        try:
            import obstore.store  # noqa: PLC0415  an extra
        except ImportError as error:
            raise MissingExtraError("sources on object stores", store) from error
        self.store, self.name, self._obstore = store, name, obstore
        # `_pieces` handles slow transfers; the read timeout is of silence.
        self._client = self._connect(timeout=timedelta(hours=1), read_timeout=timedelta(seconds=30))

    def _connect(self, **timeouts: timedelta) -> Any:
        for variable in ADDRESSES[self.store]:
            written = os.environ.get(variable, "")
            match = _ENDPOINT.fullmatch(written)
            if written and (match is None or int(match[1] or 0) > 65535):
                raise SourceError(f"{variable} is no address like http://127.0.0.1:9000 (no login)")
        name = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}[self.store]
        kind: Any = getattr(self._obstore.store, name)
        # Self-hosted stores may speak plain HTTP.
        options = {"connect_timeout": timedelta(seconds=10), "allow_http": True, **timeouts}
        with store_errors(self.address("")):
            return kind(self.name, client_options=options, retry_config={"max_retries": 5})

    def address(self, key: str) -> StoreAddress:
        """Return the address of a key."""
        return StoreAddress(self.name, key, self.store)

    def stored(self, key: str, size: int = UNKNOWN_SIZE, tag: str | None = None) -> StoredObject:
        """Return an object; by its key alone, without a lookup."""
        # Azure's lists omit the quotation marks of an ETag.
        return StoredObject(self.name, key, size, (tag or "").strip('"'), self.store)

    def _of(self, meta: ObjectMeta) -> StoredObject:
        return self.stored(meta["path"], meta["size"], meta["e_tag"])

    def objects(self, folder: str = "") -> Iterator[StoredObject]:
        """Yield the objects in a folder and those below it, in the store's order."""
        with store_errors(self.address(folder)):
            pages = self._obstore.list(self._client, folder or None)
            while page := _wait_for(lambda: next(pages, None)):
                yield from (self._of(one) for one in page if one["path"].startswith(folder))

    def find(self, key: str) -> StoredObject | None:
        """Return the object of a key, if any."""
        with store_errors(self.address(key)):
            try:
                return self._of(_wait_for(lambda: self._obstore.head(self._client, key)))
            except Exception as error:
                # Listing gives a clear error, for example for a missing bucket.
                _wait_for(lambda: next(self._obstore.list(self._client, key), None))
                if _code_of(error) not in _MISSING:
                    raise
                return None

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
        until = time.monotonic() + PATIENCE + max(0, wanted.size) / SLOWEST
        with store_errors(wanted.address):
            try:
                answer = _wait_for(lambda: self._obstore.get(self._client, wanted.key))
            except Exception as error:
                # Keys that obstore rejects do not exist.
                if _code_of(error) not in _MISSING and not isinstance(error, ValueError):
                    raise
                gone = FileNotFoundError(errno.ENOENT, "No such object", str(wanted.address))
                raise gone from error

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
                return self._send(key, file, file.stat().st_size, replaces, digest)
        except StorageError as error:
            if _code_of(error.__cause__) not in _TAKEN:
                raise
            if there := self.sent(key, digest):  # a retry after a lost answer
                return there
            raise StorageError(
                f"Another object was written to {address} meanwhile",
                "Give another name; what is done is kept.",
            ) from error

    def _send(
        self, key: str, file: Path, size: int, replaces: StoredObject | None, digest: str
    ) -> StoredObject:
        mode: Any = "create"
        if replaces is not None:
            try:
                there = _wait_for(lambda: self._obstore.head(self._client, key))
            except FileNotFoundError as error:
                raise self._obstore.exceptions.PreconditionError from error
            if self._of(there).version != replaces.version:
                raise self._obstore.exceptions.PreconditionError
            mode = {name: there[name] for name in ("e_tag", "version") if there[name] is not None}
        # The answer comes only after the whole upload.
        client = self._connect(timeout=timedelta(seconds=PATIENCE + size / SLOWEST))
        with file.open("rb") as stream:
            # Read lazily by the system.
            content: Any = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            result = _wait_for(
                lambda: self._obstore.put(
                    client,
                    key,
                    content,
                    mode=mode,
                    attributes={"sha256": digest},
                    use_multipart=False,
                )
            )
        return self.stored(key, size, result["e_tag"])

    def sent(self, key: str, digest: str) -> StoredObject | None:
        """Return the object if `write` made it from content with this SHA-256."""
        with store_errors(self.address(key), writing=True):
            answer = _wait_for(lambda: self._obstore.get(self._client, key, options={"head": True}))
            return self._of(answer.meta) if answer.attributes.get("sha256") == digest else None


_opened = functools.lru_cache(maxsize=8)(lambda store, name, _settings: Bucket(store, name))


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


def _code_of(error: BaseException | None) -> str | None:
    """Return the store's error code, ``""`` without one; ``None`` if the error is not obstore's."""
    name, text = type(error).__name__, str(error)
    nameless = isinstance(error, FileNotFoundError) and error.filename is None
    if not (nameless or type(error).__module__.startswith(("obstore", "pyo3_runtime"))):
        return None
    summary, _, details = text.partition("Debug source:")
    answered = _STATUS.search(summary) is not None and "token request" not in summary
    if name == "PanicException" or (not answered and _SETTINGS.search(details)):
        return "settings"
    if match := _CODE.search(text):
        return match[1]
    status = _STATUS.search(text)
    return _CLASSES.get(name, status[1] if status else "")


@contextmanager
def store_errors(address: StoreAddress, *, writing: bool = False) -> Iterator[None]:
    """Turn obstore's errors into `SourceError`, or while writing `StorageError`."""
    try:
        yield
    except OpsinError:
        raise
    except BaseException as error:  # obstore's panics are not of Exception
        code = "InvalidPath" if isinstance(error, ValueError) else _code_of(error)
        if code is None:
            raise
        parts = next(
            (parts for codes, parts in _REFUSED.items() if code in codes.split(" ")), _OTHERWISE
        )
        known = {
            "address": address,
            "bucket": address.bucket,
            "code": code,
            "credentials": _CREDENTIALS[address.store],
            "endpoint": ADDRESSES[address.store][0],
            "verb": "write" if writing else "read",
        }
        kind = StorageError if writing else SourceError
        raise kind(*(part.format_map(known) for part in parts)) from error


@contextmanager
def said_as(file: Path, address: object) -> Iterator[None]:
    """Let a block's errors name an object instead of its local file."""
    try:
        yield
    except OpsinError as error:
        error.replace(str(file), str(address))
        raise
