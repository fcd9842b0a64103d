"""Where images come from: one module for each kind of source."""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.formats import SUFFIXES
from opsin.data.image_stream import Stream, stream_of_one

# The modules of the kinds take longer to load than an image to answer.
if TYPE_CHECKING:
    from opsin.core.recipe import DataRecipe
    from opsin.data.sources.contents import LocatedSource
    from opsin.data.sources.source_kind import SourceKind, SourceRequest

#: The source that means standard input.
STANDARD_INPUT: Final = "-"

_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@functools.cache
def kinds() -> tuple[SourceKind, ...]:
    """Return the kinds of source, in the order in which they are asked.

    Example:
        >>> "an .npz file" in [kind.title for kind in kinds()]
        True
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names)
    found: list[SourceKind] = [module.KIND for module in modules if hasattr(module, "KIND")]
    return tuple(sorted(found, key=lambda kind: kind.rank))


def described() -> list[SourceKind]:
    """Return the kinds in the order in which they are described: the most general first."""
    return sorted(kinds(), key=lambda kind: -kind.rank)


def kinds_in_words(*, labelled: bool = True) -> str:
    """Return what a source may be, as help and errors list it.

    Args:
        labelled: Whether it is to have labels.

    Example:
        >>> kinds_in_words(labelled=False).partition(", an archive")[0]
        'an image, a folder'
    """
    *most, last = [
        kind.title
        for kind in described()
        if kind.title and (kind.locate if labelled else kind.iter_unlabelled)
    ]
    return f"{', '.join(most)} or {last}"


def find_all(
    recipe: DataRecipe,
    *,
    given: Mapping[str, LocatedSource] | None = None,
    watcher: Watcher = SILENT,
) -> LocatedSource:
    """Find every source of a recipe, to be opened as one.

    Args:
        recipe: Which sources.
        given: Those that a program holds, by their names in the recipe.
        watcher: Receives the progress of the work.

    Raises:
        SourceError: One of them is missing, or is not laid out as expected.
    """
    from opsin.data.left_out import add_up  # noqa: PLC0415
    from opsin.data.sources.contents import LocatedSource  # noqa: PLC0415
    from opsin.data.sources.joined import check_different, join  # noqa: PLC0415
    from opsin.data.sources.manifest import check_columns  # noqa: PLC0415
    from opsin.data.sources.source_kind import SourceRequest  # noqa: PLC0415

    def find(source: str) -> LocatedSource:
        if given and source in given:
            return given[source]
        return locate(
            SourceRequest(
                source,
                recipe.columns,
                follow_links=recipe.follow_links,
                outside=recipe.outside,
                watcher=watcher,
            )
        )

    check_columns(recipe.columns)
    check_different([*recipe.sources, *([recipe.test] if recipe.test else [])])
    parts = [(source, find(source)) for source in recipe.sources]
    test = (recipe.test, find(recipe.test)) if recipe.test else None
    if len(parts) == 1 and test is None:
        return parts[0][1]
    known = [found.left_out for _, found in [*parts, *([test] if test else [])]]
    key = repr([found.key for _, found in parts] + ([test[1].key] if test else [None]))
    return LocatedSource(
        key,
        lambda: join(
            [(source, found.open()) for source, found in parts],
            (test[0], test[1].open()) if test else None,
        ),
        None if None in known else add_up(filter(None, known)),
    )


def locate(request: SourceRequest) -> LocatedSource:
    """Find out what a source of labelled images is, without reading images.

    Raises:
        SourceError: There is no such source, or it is not laid out as expected.
    """
    for kind in kinds():
        if kind.locate and kind.match(request):
            return kind.locate(request)
    from opsin.data.sources.named import NAMES  # noqa: PLC0415

    if request.is_file:
        raise SourceError(
            kinds_in_words(),
            f"{request.written} is a file of another kind",
            "Put images into one sub-folder for each class and give the folder.",
        )
    raise SourceError(
        f"a folder, a file, or a name among {', '.join(sorted(NAMES))}",
        f"there is no {request.written!r} here",
        "Check the spelling, or give the folder's whole name.",
    )


def open_stream(
    source: str | os.PathLike[str],
    *,
    stdin: BinaryIO | None = None,
    columns: Mapping[str, str] | None = None,
    follow_links: bool = False,
    outside: bool = False,
    watcher: Watcher = SILENT,
) -> Stream:
    """Find the images of a source, labelled or not, without reading any.

    Args:
        source: A folder in any layout; a table with a column ``path`` or ``file_name``; an archive,
            which is read without being unpacked to the disk; one image; or ``-`` for standard
            input, which holds either one image or names of files, a line each or parted by NUL
            as ``find -print0`` does.
        stdin: Where ``-`` reads (default: the process's standard input).
        columns: Names of a table's columns by ours, where they differ: ``{"path": "file"}``.
        follow_links: Also follow symbolic links that lead out of a folder, or of a table's.
        outside: Let a table name images outside its folder.
        watcher: Receives notes about what was passed over.

    Raises:
        SourceError: There is no such source, or it is of another kind.

    Example:
        >>> stream = open_stream("boot.png")
        >>> stream.kind, stream.count()
        ('file', 1)
    """
    source = os.fspath(source)
    path = Path(os.path.expanduser(source))  # noqa: PTH111  no error where there is no home
    # os.path, because it answers for impossible names instead of raising.
    if not columns and path.suffix.lower() in SUFFIXES and os.path.isfile(path):  # noqa: PTH113
        return stream_of_one(source, path)
    from opsin.data.sources.manifest import check_columns  # noqa: PLC0415
    from opsin.data.sources.source_kind import SourceRequest  # noqa: PLC0415

    check_columns(columns)
    request = SourceRequest(
        source, columns, follow_links=follow_links, outside=outside, stdin=stdin, watcher=watcher
    )
    if source:  # empty: a shell's variable that is not set, never the folder one happens to be in
        for kind in kinds():
            if kind.iter_unlabelled and kind.match(request):
                return kind.iter_unlabelled(request)
        if path.suffix.lower() in SUFFIXES and not (request.is_folder or _ADDRESS.match(source)):
            return stream_of_one(source, path)  # read like any other, it tells why it cannot be
    raise SourceError(
        kinds_in_words(labelled=False),
        *_why_no_stream(request),
    )


def _why_no_stream(request: SourceRequest) -> tuple[str, str]:
    """Return what is wrong with a source, and what to do."""
    source = request.written
    if not source:
        return "got an empty name", "Check it, or give . for this folder."
    if request.is_file:
        advice = "Images that a data set keeps as arrays are evaluated: opsin evaluate MODEL FILE."
        return f"{source} is a file of another kind", advice
    if _ADDRESS.match(source):
        return (
            f"{source} is an address, and Opsin fetches nothing by itself",
            "Download it first, or pipe one image: curl -s ADDRESS | opsin predict MODEL -",
        )
    if os.path.exists(request.path):  # noqa: PTH110
        return (
            f"{source} is none of these, but a pipe or a device",
            "Pipe it into the command and give - as the source.",
        )
    return f"there is no {source!r} here", "Check the spelling, or give the whole name."
