"""What the user calls something on an object store: ``s3://bucket/photos``."""

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
# A single slash is what is left of the two in a `Path`.
_ADDRESS: Final = re.compile(r"(s3|gs|az|abfss?):/{1,2}([^/]*)(?:/(.*))?", re.DOTALL)


def is_stored(written: str | os.PathLike[str]) -> bool:
    """Tell whether this is an address on an object store.

    Example:
        >>> is_stored("s3://bucket/photos"), is_stored("photos"), is_stored("s3")
        (True, False, False)
    """
    return _ADDRESS.fullmatch(os.fspath(written)) is not None


@dataclass(frozen=True)
class StoreAddress(os.PathLike[str]):
    """A bucket, and a key in it or what several keys begin with.

    Args:
        bucket: The bucket's name.
        key: The key, any text: it is data, and no path of this machine is made of it.
        store: Which store the bucket is on; a bucket of Azure is a container.

    Example:
        >>> address = StoreAddress.read("s3://bucket/photos/1.jpg")
        >>> address.bucket, address.key, address.name
        ('bucket', 'photos/1.jpg', '1.jpg')
    """

    bucket: str
    key: str
    store: Store = "s3"

    @classmethod
    def read(cls, written: str | os.PathLike[str]) -> StoreAddress:
        """Read what the user wrote.

        Raises:
            RecipeError: It is no such address, or one of a store that Opsin does not read.
        """
        text = os.fspath(written)
        found = _ADDRESS.fullmatch(text)
        if found is None or not found[2]:
            raise RecipeError(
                "an address on an object store, such as s3://bucket/photos",
                f"got {text!r}",
                "Name the bucket, and what is meant in it.",
            )
        if found[1] not in get_args(Store):
            raise RecipeError(
                "an address that begins with s3://, gs:// or az://",
                f"got {text!r}",
                f"Azure: az://container/photos, with {AZURE_ACCOUNT}.",
            )
        address = cls(found[2], found[3] or "", cast("Store", found[1]))
        if address.store != "s3" and _is_odd(address.key):
            raise RecipeError(
                "keys with a name between any two slashes",
                f"got {text!r}",
                "Rename what is called otherwise; only s3:// reads it.",
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


def _is_odd(key: str) -> bool:
    """Tell whether a key has parts that cannot be the names of files."""
    parts = key.removesuffix("/").split("/")
    control = any(ord(each) < 32 or each == "\x7f" or "\ud800" <= each <= "\udfff" for each in key)
    return control or bool(key and {"", ".", ".."}.intersection(parts))
