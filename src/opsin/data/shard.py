"""Equal parts of a source, the same on every machine."""

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
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise RecipeError(f"A shard is such as 2/3, the second of three, not {text!r}")
        return cls(int(match[1]), int(match[2]))

    def rows(self, total: int) -> range:
        """Return the shard's rows of a source, possibly none."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)

    def file(self, out: Path) -> Path:
        """Return the path of the shard's part of ``out``."""
        return out.with_stem(f"{out.stem}-{self.number:05}-of-{self.count:05}")


def named_shard(part: Path) -> Shard | None:
    """Return the shard in a file's name, if any."""
    match = _NAMED.fullmatch(part.stem)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return None
    return Shard(int(match["number"]), int(match["count"]))


def whole_file(part: Path) -> Path | None:
    """Return the whole file of a shard's file, by its name, if it is one."""
    match = _NAMED.fullmatch(part.stem)
    return None if match is None else part.with_stem(match["stem"])


def counted_name(name: str) -> bytes:
    """Encode a name for the fingerprint of a source's images."""
    return name.encode("utf-8", "surrogatepass") + b"\0"


@dataclass(frozen=True)
class ShardInputs:
    """A shard of a source, with the source's count and the SHA-256 of its names."""

    shard: Shard
    images: int
    fingerprint: str

    @classmethod
    def of(cls, shard: Shard, names: Iterable[str]) -> ShardInputs:
        """Count and hash names, or other identities of images, in order."""
        digest, images = hashlib.sha256(), 0
        for name in names:
            digest.update(counted_name(name))
            images += 1
        return cls(shard, images, digest.hexdigest())

    @property
    def rows(self) -> range:
        """The shard's rows, in the source's order."""
        return self.shard.rows(self.images)
