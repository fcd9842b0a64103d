"""A set as a small file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from opsin.core.recipe import DataRecipe
from opsin.core.recipe_options import options_of


@dataclass(frozen=True)
class LibraryDataset:
    """A collection as the studio knows it.

    Args:
        id: Hexadecimal digits: the name of its folder.
        title: What people call it.
        sources: What follows `opsin train`: names, or whole paths.
        options: Fields of `DataRecipe` that are not as usual.
        made_here: Whether its images are in the studio's own folder, so that more can be added.
        created: When it was added, in seconds since 1970.

    Example:
        >>> LibraryDataset("0a", "Digits", ("digits",), {"classes": ["3", "8"]}).words()
        ['--classes=3,8', '--', 'digits']
    """

    id: str
    title: str
    sources: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    made_here: bool = False
    created: float = field(default_factory=time.time)

    def words(self) -> list[str]:
        """Return what says on the command line which images are meant, the sources last."""
        return [*_words(self.options), "--", *self.sources]


def is_id(text: str) -> bool:
    """Tell whether a text can be the id of a set, and nothing else."""
    return len(text) == 16 and all(each in "0123456789abcdef" for each in text)


def id_of(given: Sequence[str], options: dict[str, Any]) -> str:
    """Return the id of these sources, so that the same are added once."""
    text = json.dumps([list(given), options], sort_keys=True, default=str)
    return hashlib.blake2s(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def set_of(content: Any, identity: str) -> LibraryDataset:
    """Read what a set's file holds; what it says of its id is passed over.

    Raises:
        TypeError: It is not what was written.
        KeyError: Likewise.
    """
    if not isinstance(content, dict):
        raise TypeError(content)
    title, sources, options = content["title"], content["sources"], content["options"]
    made_here, created = content["made_here"], content["created"]
    plain = isinstance(title, str) and isinstance(options, dict) and isinstance(made_here, bool)
    listed = isinstance(sources, list) and sources and all(isinstance(s, str) for s in sources)
    if not (plain and listed and isinstance(created, int | float)):
        raise TypeError(content)
    return LibraryDataset(identity, title, tuple(sources), options, made_here, created)


def _words(options: dict[str, Any]) -> Iterator[str]:
    """Yield options of `DataRecipe` as the command line takes them."""
    known = options_of(DataRecipe)
    for name, value in options.items():
        if value is not None:
            yield known[name].argument(known[name].write(value))
