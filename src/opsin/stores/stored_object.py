"""One object of a store, as its list shows it."""

from __future__ import annotations

from dataclasses import dataclass

from opsin.stores.store_address import Store, StoreAddress

#: The size of an object that was not looked up.
UNKNOWN_SIZE = -1


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object, without its content: there are millions of them.

    Any process that can reach the store reads it (`opsin.stores.bucket.Bucket.content`).

    Args:
        bucket: The bucket's name.
        key: Its key.
        size: Bytes; `UNKNOWN_SIZE` where it was not looked up.
        version: What is another for another content, the store's ETag; ``""`` where it was not
            looked up.
        store: Which store the bucket is on.

    Example:
        >>> StoredObject("bucket", "photos/1.jpg", 4096, '"9c1185a5c5e9fc54"').name
        '1.jpg'
    """

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

    @property
    def stamp(self) -> str:
        """What another content under its key has otherwise; ``""`` where that is unknown."""
        return f"{self.size} {self.version}" if self.version else ""
