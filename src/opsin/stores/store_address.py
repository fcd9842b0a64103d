"""Addresses on object stores (``s3://bucket/photos``), and the objects that lie there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Final, Literal, cast, get_args

from opsin.core.errors import RecipeError

#: S3 and what speaks its protocol, Google Cloud Storage, and Azure Blob Storage.
Store = Literal["s3", "gs", "az"]
#: Variables that hold the address of a store of one's own.
ADDRESSES: Final[dict[Store, tuple[str, ...]]] = {
    "s3": ("AWS_ENDPOINT_URL",),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
#: Which account of Azure a container belongs to.
AZURE_ACCOUNT: Final = "AZURE_STORAGE_ACCOUNT_NAME"
#: The size of an object that was not looked up.
UNKNOWN_SIZE: Final = -1
# A single slash is what is left of the two in a `Path`.
_ADDRESS: Final = re.compile(r"(s3|gs|az|abfss?):/{1,2}([^/]*)(?:/(.*))?", re.DOTALL)
_BUCKET: Final = re.compile(r"[A-Za-z0-9$_][A-Za-z0-9._-]*")


def is_stored(written: str | os.PathLike[str]) -> bool:
    """Tell whether this is an address on an object store."""
    return _ADDRESS.fullmatch(os.fspath(written)) is not None


@dataclass(frozen=True)
class StoreAddress(os.PathLike[str]):
    """A bucket (of Azure, a container), and a key in it or what several keys begin with."""

    bucket: str
    key: str
    store: Store = "s3"

    @classmethod
    def read(cls, written: str | os.PathLike[str]) -> StoreAddress:
        """Read what the user wrote; `RecipeError` where it is no address that Opsin reads."""
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
        """Return it as the user writes it, for whatever takes sources or places."""
        return str(self)

    @property
    def name(self) -> str:
        """What follows the key's last slash."""
        return self.key.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """What keys begin with that lie below this one, as files do below a folder."""
        return self.key if not self.key or self.key.endswith("/") else f"{self.key}/"

    def beside(self, name: str) -> StoreAddress:
        """Return the address of another key that differs in what follows the last slash."""
        return replace(self, key=f"{self.key[: len(self.key) - len(self.name)]}{name}")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a store without its content: there are millions of them."""

    bucket: str
    key: str
    size: int
    version: str
    store: Store = "s3"

    @property
    def address(self) -> StoreAddress:
        """Where it is."""
        return StoreAddress(self.bucket, self.key, self.store)

    @property
    def name(self) -> str:
        """What follows the key's last slash."""
        return self.address.name
