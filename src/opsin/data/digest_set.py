"""A million digests in ten megabytes."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BUCKET_BITS: Final = 10


class DigestSet:
    """A set of 64-bit digests in little more than 8 bytes each."""

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(1 << _BUCKET_BITS)]

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def __contains__(self, digest: int) -> bool:
        bucket = self._buckets[digest >> (64 - _BUCKET_BITS)]
        place = bisect_left(bucket, digest)
        return place < len(bucket) and bucket[place] == digest

    def add(self, digest: int) -> bool:
        """Add a digest; tell whether it is new."""
        bucket = self._buckets[digest >> (64 - _BUCKET_BITS)]
        place = bisect_left(bucket, digest)
        if place < len(bucket) and bucket[place] == digest:
            return False
        bucket.insert(place, digest)
        return True

    def extend(self, digests: NDArray[np.uint64]) -> None:
        """Add many digests, ``uint64[N]``; call `sort` when all are there."""
        ordered = np.sort(digests.astype(np.uint64))  # in the machine's order of bytes
        edges = np.arange(1, 1 << _BUCKET_BITS, dtype=np.uint64) << np.uint64(64 - _BUCKET_BITS)
        parts = np.split(ordered, np.searchsorted(ordered, edges))
        for bucket, part in zip(self._buckets, parts, strict=True):
            bucket.frombytes(part.tobytes())

    def sort(self) -> None:
        """Bring what `extend` added into order."""
        self._buckets = [
            array("Q", np.unique(np.array(bucket, np.uint64)).tobytes()) for bucket in self._buckets
        ]
