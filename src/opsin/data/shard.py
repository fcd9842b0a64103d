"""Equal parts of a source, cut alike on every machine that sees it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opsin.core.errors import RecipeError

_WRITTEN: Final = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)
_NAMED: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5,6})-of-(?P<count>\d{5,6})", re.DOTALL)


@dataclass(frozen=True, order=True)
class Shard:
    """One of several parts of equal size."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            first = f"they go from 1/{self.count} to {self.count}/{self.count}"
            raise RecipeError(
                f"There is no shard {self}: {first if self.count else 'the first of two is 1/2'}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``2/3``, the second of three."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise RecipeError(f"A shard is such as 2/3, the second of three, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def rows(self, total: int) -> range:
        """Return which rows of a source are in the shard; it may have none."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)

    def file(self, out: Path) -> Path:
        """Return where the shard's part of ``out`` is written."""
        return out.with_stem(f"{out.stem}-{self.number:05}-of-{self.count:05}")


def named_shard(part: Path) -> Shard | None:
    """Return which shard a file is by its name; ``None`` where it is none."""
    found = _NAMED.fullmatch(part.stem)
    if found is None or not 1 <= int(found["number"]) <= int(found["count"]):
        return None
    return Shard(int(found["number"]), int(found["count"]))


def whole_file(part: Path) -> Path | None:
    """Return the file of which another is a shard by its name; ``None`` where it is none."""
    found = _NAMED.fullmatch(part.stem)
    return None if found is None else part.with_stem(found["stem"])


def counted_name(name: str) -> bytes:
    """Return what a name adds to the fingerprint of a source's images."""
    return name.encode("utf-8", "surrogatepass") + b"\0"


@dataclass(frozen=True)
class ShardInputs:
    """The images of a whole source, SHA-256 of their names, and which of them are in a shard."""

    shard: Shard
    images: int
    fingerprint: str

    @classmethod
    def of(cls, shard: Shard, names: Iterable[str]) -> ShardInputs:
        """Count names, or whatever else is different between images, in their order."""
        digest, images = hashlib.sha256(), 0
        for name in names:
            digest.update(counted_name(name))
            images += 1
        return cls(shard, images, digest.hexdigest())

    @property
    def rows(self) -> range:
        """Which images are in the shard, in the source's order."""
        return self.shard.rows(self.images)
