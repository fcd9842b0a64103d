"""Sources of images: one module for each kind."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypedDict

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.formats import SUFFIXES
from opsin.data.image_stream import Stream, stream_of_one

# Loading the modules of the kinds takes longer than classifying an image.
if TYPE_CHECKING:
    from opsin.core.recipe import DataRecipe
    from opsin.data.sources.contents import LabelledImages, LocatedSource
    from opsin.data.sources.rows import SourceKind, SourceRequest

# A shell's variable that is not set: never the folder one happens to be in.
_EMPTY: Final = "The name of the source is empty", "Check it, or give . for this folder."
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@functools.cache
def kinds() -> tuple[SourceKind, ...]:
    """Return the kinds of source, in order of rank."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    listed: list[SourceKind] = [kind for module in modules for kind in getattr(module, "KINDS", ())]
    return tuple(sorted(listed, key=lambda kind: kind.rank))


def kinds_in_words(*, labelled: bool = True) -> str:
    """List the kinds of source, labelled or not, the most general first."""
    *most, last = [
        kind.title
        for kind in sorted(kinds(), key=lambda kind: -kind.rank)
        if (kind.locate if labelled else kind.iter_unlabelled)
    ]
    return f"{', '.join(most)} or {last}"


def find_all(
    recipe: DataRecipe,
    *,
    held: Mapping[str, LocatedSource] | None = None,
    watcher: Watcher = SILENT,
) -> LocatedSource:
    """Locate every source of a recipe, to be opened as one."""
    from opsin.data.image_tree import add_up  # noqa: PLC0415
    from opsin.data.sources.contents import LocatedSource, join  # noqa: PLC0415
    from opsin.data.sources.named import is_place  # noqa: PLC0415
    from opsin.data.sources.rows import SourceRequest  # noqa: PLC0415

    written = [*recipe.sources, *([] if recipe.test is None else [recipe.test])]
    if "" in written:
        raise SourceError(*_EMPTY)
    for pair in itertools.combinations(written, 2):
        # Its images would count twice.
        one, other = (
            os.path.realpath(os.path.expanduser(name)) if is_place(name) else name  # noqa: PTH111
            for name in pair
        )
        if one == other:
            raise SourceError(f"{pair[0]} and {pair[1]} are the same source", "Leave one out.")
    request = SourceRequest(
        "", recipe.columns, recipe.follow_links, recipe.outside, watcher=watcher
    )
    held = held or {}
    located = [
        held.get(name)
        or locate(replace(request, written=name, joined=len(written) > 1 and name != recipe.test))
        for name in written
    ]
    if len(located) == 1:
        return located[0]

    def read() -> LabelledImages:
        return join(written, [source.open() for source in located], test=recipe.test is not None)

    keys = [source.key for source in located]
    key = repr([*keys[: len(recipe.sources)], None if recipe.test is None else keys[-1]])
    known = [source.left_out for source in located]
    return LocatedSource(key, read, None if None in known else add_up(filter(None, known)))


def locate(request: SourceRequest) -> LocatedSource:
    """Locate a source of labelled images, without reading images."""
    for kind in kinds():
        if kind.locate and kind.match(request):
            return kind.locate(request)
    from opsin.data.sources.named import NAMES  # noqa: PLC0415

    if request.is_file:
        why = f"{request.written} is a file of another kind than {kinds_in_words()}"
        raise SourceError(why, "Put images into one sub-folder for each class and give the folder.")
    problem = f"There is no {request.written!r} here, and Opsin's own names are {', '.join(NAMES)}"
    raise SourceError(problem, "Check the spelling, or give the folder's whole name.")


class Reading(TypedDict, total=False):
    """How a source is read whose images need no labels."""

    columns: Mapping[str, str] | None  # names of a table's columns, if not the usual ones
    follow_links: bool  # enter folders through symbolic links
    outside: bool  # let a table name images outside its folder


def open_stream(
    source: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    follow_links: bool = False,
    outside: bool = False,
    watcher: Watcher = SILENT,
) -> Stream:
    """Open the images of a source, labelled or not, as a stream."""
    source = os.fspath(source)
    path = os.path.expanduser(source)  # noqa: PTH111  no error where there is no home
    named_image = os.path.splitext(path)[1].lower() in SUFFIXES  # noqa: PTH122
    # os.path, because it answers for impossible names instead of raising.
    if not columns and named_image and os.path.isfile(path):  # noqa: PTH113
        return stream_of_one(source, path)
    from opsin.data.sources.rows import SourceRequest  # noqa: PLC0415

    if not source:
        raise SourceError(*_EMPTY)
    request = SourceRequest(source, columns, follow_links, outside, watcher=watcher)
    for kind in kinds():
        if kind.iter_unlabelled and kind.match(request):
            return kind.iter_unlabelled(request)
    if named_image and not (request.is_folder or _ADDRESS.match(source)):
        return stream_of_one(source, path)  # read like any other, it tells why it cannot be
    why, advice = f"There is no {source!r} here", "Check the spelling, or give the whole name."
    if request.is_file:
        why = f"{source} is a file of another kind"
        advice = "Images that a data set keeps as arrays are evaluated: opsin evaluate MODEL FILE."
    elif _ADDRESS.match(source):
        why = f"{source} is an address, and Opsin fetches nothing by itself"
        advice = "Download it first: curl -O ADDRESS"
    elif os.path.exists(path):  # noqa: PTH110
        why, advice = f"{source} is a pipe or a device", "Write it into a file first."
    raise SourceError(f"{why}; {kinds_in_words(labelled=False)} is expected", advice)
