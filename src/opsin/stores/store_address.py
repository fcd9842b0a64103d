"""Addresses on object stores (``s3://bucket/photos``), and objects."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Final, Literal, cast, get_args

from opsin.core.errors import RecipeError

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
_BUCKET: Final = re.compile(r"[A-Za-z0-9$_][A-Za-z0-9._-]*")


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
            raise RecipeError(
                f"{text!r} has no name of a bucket, or a key without a name between two slashes"
            )
        return address

    def __str__(self) -> str:
        return f"{self.store}://{self.bucket}/{self.key}"

    def __fspath__(self) -> str:
        """Return it as the user writes it, for functions that take sources or paths."""
        return str(self)

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

    @property
    def name(self) -> str:
        """What follows the key's last slash."""
        return self.address.name
