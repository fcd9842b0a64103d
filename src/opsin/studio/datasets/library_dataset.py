"""A set as a small file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from opsin.core.recipe import DataRecipe
from opsin.core.recipe_options import options_of


@dataclass(frozen=True)
class LibraryDataset:
    """A collection as the studio knows it."""

    id: str
    title: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    options: dict[str, object] = field(default_factory=dict)
    made_here: bool = False
    created: float = field(default_factory=time.time)

    def words(self) -> list[str]:
        """Return what says on the command line which images are meant, the sources last."""
        return [*_words(self.options), "--", *self.sources]

    def words_to_measure(self) -> list[str]:
        """Return what says which images an imported classifier is measured on."""
        own = {name: value for name, value in self.options.items()
               if name not in ("size", "channels")}  # fmt: skip
        return [*_words(own), *(f"--data={source}" for source in self.sources)]


def is_id(text: str) -> bool:
    """Tell whether a text can be the id of a set, and nothing else."""
    return len(text) == 16 and all(each in "0123456789abcdef" for each in text)


def id_of(given: Sequence[str], options: dict[str, object]) -> str:
    """Return the id of these sources, so that the same are added once."""
    text = json.dumps([list(given), options], sort_keys=True, default=str)
    return hashlib.blake2s(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def stored_set(content: object) -> LibraryDataset:
    """Read what a set's file holds."""
    return _STORED.validate_python(content)


def _words(options: dict[str, object]) -> Iterator[str]:
    """Yield options of `DataRecipe` as the command line takes them."""
    known = options_of(DataRecipe)
    for name, value in options.items():
        if value is not None:
            yield known[name].argument(known[name].write(value))


_STORED: Final = TypeAdapter(LibraryDataset)
