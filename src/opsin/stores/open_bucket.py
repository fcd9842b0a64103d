"""The buckets that this process speaks to."""

from __future__ import annotations

import functools
import os
from typing import Final

from opsin.stores.bucket import Bucket
from opsin.stores.store_address import Store, StoreAddress
from opsin.stores.stored_object import StoredObject

# What the configuration of an account stands in.
_SETTINGS: Final = ("AWS_", "GOOGLE_", "AZURE_")


def open_bucket(where: StoreAddress | StoredObject) -> Bucket:
    """Return the bucket that something lies in, one for the process; the store is not asked yet.

    Raises:
        MissingExtraError: The library that speaks to the store is not installed.
        SourceError: The configuration of this account cannot work.
    """
    # Credentials that were renewed in this process count from then on.
    settings = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
    return _opened(where.store, where.bucket, hash(frozenset(settings.items())))


@functools.lru_cache(maxsize=8)
def _opened(store: Store, name: str, settings: int) -> Bucket:  # noqa: ARG001  what it depends on
    if store == "s3":
        from opsin.stores.s3_bucket import S3Bucket  # noqa: PLC0415  an extra

        return S3Bucket(name)
    from opsin.stores.obstore_bucket import ObstoreBucket  # noqa: PLC0415  an extra

    return ObstoreBucket(store, name)
