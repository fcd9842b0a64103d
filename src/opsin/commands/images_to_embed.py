"""Where images to be embedded come from: with labels where the source has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from opsin.commands.predict.stream import open_streams
from opsin.core.errors import SourceError
from opsin.core.events import Watcher
from opsin.core.recipe import DataRecipe
from opsin.data import sources
from opsin.data.dataset import Dataset, find_given
from opsin.data.formats import SUFFIXES
from opsin.data.image_stream import ListedImage
from opsin.data.shard import NamesDigest, Shard, ShardInputs
from opsin.data.sources.contents import LabelledImages
from opsin.data.split import TEST, TRAIN, VAL


@dataclass(frozen=True)
class ImagesToEmbed:
    """Images, listed while they are asked for.

    Args:
        source: What the user called them.
        title: The same in a word.
        classes: What labels stand for; ``None`` where there are none.
        each: Lists them.
        count: How many there are; ``None`` where only reading tells.
        end_wait: Ends a wait for a name on standard input.
        dataset: Where they are prepared already, those.
        inputs: Where they are one shard of a source, which; ``None``: the whole of it.
        passing: Whether they come once only, as on standard input.
    """

    source: str
    title: str
    classes: tuple[str, ...] | None
    each: Callable[[], Iterator[ListedImage]]
    count: int | None
    end_wait: Callable[[], None] = lambda: None
    dataset: Dataset | None = None
    inputs: ShardInputs | None = None
    passing: bool = False


def find_images(
    data: object,
    *,
    test: str | None,
    classes: Sequence[str] | None,
    columns: Mapping[str, str] | None,
    follow_links: bool,
    outside: bool,
    stdin: BinaryIO | None,
    shard: Shard | None,
    watcher: Watcher,
) -> ImagesToEmbed:
    """Find the images of a source: those with labels, if it has any, or all of them."""
    if isinstance(data, Dataset):
        return _of_dataset(data, shard)
    given = list(data) if isinstance(data, list | tuple) else [data]
    if not given:
        raise SourceError("one source or more", "got none", "Check what was to find them.")
    options = {
        "test": test,
        "classes": None if classes is None else tuple(classes),
        "columns": None if columns is None else dict(columns),
        "follow_links": follow_links,
        "outside": outside,
    }
    recipe, held = find_given(given, options, watcher)
    if held is not None:
        return _of_labelled(held.open(), recipe, shard)
    several = list(recipe.sources)
    why: SourceError | None = None
    if not all(map(_is_one_image, several)):
        try:
            found = sources.find_all(recipe, watcher=watcher).open()
            return _of_labelled(found, recipe, shard)
        except SourceError as error:
            if test is not None or classes is not None:
                raise
            why = error
    try:
        stream = open_streams(
            several, columns=columns, follow_links=follow_links, outside=outside, stdin=stdin,
            shard=shard, once=False, watcher=watcher,
        )  # fmt: skip
    except SourceError:
        raise why or SourceError("images", "there are none", "Check the source.") from None
    if why is not None:
        watcher.note(f"taken as images without labels: {why.received}")
    title = "images" if recipe.sources == (sources.STANDARD_INPUT,) else recipe.title
    return ImagesToEmbed(
        recipe.source,
        title,
        None,
        stream.each,
        stream.count(),
        stream.close,
        inputs=stream.inputs,
        passing=stream.passing,
    )


def _is_one_image(source: str) -> bool:
    """Whether it never has a label: an image's file, and standard input."""
    named = os.path.splitext(source)[1].lower() in SUFFIXES  # noqa: PTH122  any text
    return source == sources.STANDARD_INPUT or (named and not os.path.isdir(source))  # noqa: PTH112


def _of_dataset(dataset: Dataset, shard: Shard | None) -> ImagesToEmbed:
    parts = np.zeros(len(dataset), np.uint8)
    for name, code in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        parts[dataset.split.rows(name)] = code

    def at(row: int) -> ListedImage:
        label, part = int(dataset.labels[row]), int(parts[row])
        return ListedImage(dataset.names[row], b"", label, part, row=row)

    rows = zip(dataset.names, dataset.labels, parts, strict=True)
    found = _of_rows(dataset.recipe, dataset.classes, at, rows, count=len(dataset), shard=shard)
    return replace(found, dataset=dataset)


def _of_labelled(
    contents: LabelledImages, recipe: DataRecipe, shard: Shard | None
) -> ImagesToEmbed:
    if recipe.classes:
        contents = contents.keep(recipe.classes)
    if not len(contents):
        raise SourceError("images", f"{recipe.source} holds none", "Is it the right source?")

    def at(row: int) -> ListedImage:
        label, part = int(contents.labels[row]), int(contents.given[row])
        return replace(ListedImage.at(row, contents.names, contents.images), label=label, part=part)

    rows = zip(contents.names, contents.labels, contents.given, strict=True)
    return _of_rows(recipe, tuple(contents.classes), at, rows, count=len(contents), shard=shard)


def _of_rows(
    recipe: DataRecipe,
    classes: tuple[str, ...],
    at: Callable[[int], ListedImage],
    rows: Iterator[tuple[object, ...]],
    *,
    count: int,
    shard: Shard | None,
) -> ImagesToEmbed:
    """Images that are a list, or those of one shard, which depends on name, label and part."""
    inputs, wanted = None, range(count)
    if shard is not None:
        names = NamesDigest()
        for row in rows:
            names.add("\0".join(map(str, row)))
        inputs = ShardInputs(shard, names.count, names.hex)
        wanted = inputs.rows
    return ImagesToEmbed(
        recipe.source, recipe.title, classes, lambda: map(at, wanted), len(wanted), inputs=inputs
    )
