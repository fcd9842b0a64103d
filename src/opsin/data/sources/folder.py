"""A folder of images: one sub-folder for each class, or any layout without labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.data.formats import SUFFIXES
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import LINK_OUT, ImageTree, Walk, is_run, left_out_in_words
from opsin.data.sources.contents import Files, LabelledImages, LocatedSource
from opsin.data.sources.rows import Row, RowCollector, SourceKind, SourceRequest
from opsin.data.split import TRAIN, part_named

_USUAL = ("train", "val", "test")
_ENDINGS = f"Images end in {', '.join(SUFFIXES[:6])} …"
_FOLLOW = "Follow them with --follow-links, or copy the images."


def open_folder(
    root: Path, *, follow_links: bool = False, watcher: Watcher = SILENT
) -> LabelledImages:
    """List ``root/<class>/**/*`` or ``root/train|val|test/<class>/**/*``."""
    tree = ImageTree(root, follow_links=follow_links)
    rows = rows_by_folder(tree, list(tree.images()), watcher)
    return rows.labelled(str(root), Files(root, rows.names))


def rows_by_folder(walk: Walk, names: Sequence[str], watcher: Watcher) -> RowCollector:
    """Read classes, and parts of a split, from the names of folders."""
    tops = [name for name in walk.folders if "/" not in name]
    inner = [name for name in walk.folders if "/" in name]
    holders = {name.partition("/")[0] for name in inner}
    # A class, too, may be called "test".
    parts = {name: code for name in tops
             if (code := part_named(name)) is not None and name in holders}  # fmt: skip
    split = TRAIN in parts.values()
    if not split and parts and len(parts) == len(tops):
        raise _explain(walk, names, parts)
    rows, outside = RowCollector(walk.passed), Counter[str]()
    for name in names:
        folder, *below = name.split("/")
        part = folder if split and folder in parts else ""
        if split and not part and below:
            outside[folder] += 1
            walk.passed.add("image outside the parts", name)
        elif len(below) > bool(part):
            rows.add(Row(name, below[0] if part else folder, part, name=name))
        else:
            walk.passed.add("loose image beside the class folders", name)
    strange = [name for name in outside if part_named(name) is None]
    if strange:
        raise SourceError(
            f"{walk.root} has {', '.join(parts)}, which look like parts of a split, and "
            f"{', '.join(strange[:5])}",
            "Take the others away if these are parts; rename these if all are classes.",
        )
    for name, count in outside.items():  # such as the tests of competitions
        watcher.note(
            f"Passed over: {count:,} images in {name}, for they have no class (sort them "
            "into a folder for each class, or classify them: opsin predict)"
        )
    _count_empty(walk, [name for name in inner if name.partition("/")[0] in parts]
                 if split else tops, names)  # fmt: skip
    if not rows.names:
        raise _explain(walk, names, parts)
    note_passed_over(walk, watcher)
    if split and not set(parts) <= set(_USUAL):
        in_order = sorted(parts.items(), key=lambda part: part[1])
        words = [f"{name} ({_USUAL[code - 1]})" for name, code in in_order]
        watcher.note(f"Taken for parts of a split: {', '.join(words)}")
    return rows


def _count_empty(walk: Walk, classes: Iterable[str], names: Iterable[str]) -> None:
    holding = {"/".join(name.split("/")[:depth]) for name in names for depth in (1, 2)}
    for folder in classes:
        if folder in holding:
            continue
        if any(f"{linked}/".startswith(f"{folder}/") for linked in walk.linked_out):
            raise SourceError(
                f"The folder {folder} of {walk.root} holds only links that lead out of it", _FOLLOW
            )
        what = "empty folder" if folder in walk.bare else "folder without images"
        walk.passed.add(what, folder)


def note_passed_over(walk: Walk, watcher: Watcher) -> None:
    """Note what a walk passed over, with advice."""
    if links := walk.passed.counts[LINK_OUT]:
        watcher.note(
            f"Passed over, for they lead out of {walk.root}: links, {links:,} in all; "
            "--follow-links follows them."
        )
    if walk.runs:
        watcher.note(
            f"Passed over in {walk.root}: runs of Opsin, {walk.runs:,} in all; they hold figures."
        )
    if walk.unreadable:
        watcher.note(
            f"Passed over: folders that cannot be read, {len(walk.unreadable):,} in all "
            f"({walk.unreadable[0]}); check their rights."
        )


def note_left_out(left_out: Iterable[LeftOut], watcher: Watcher) -> None:
    """Note what is left out, except what `note_passed_over` reports."""
    if rest := [entry for entry in left_out if entry.kind != LINK_OUT]:
        watcher.note(f"Left out: {left_out_in_words(rest)}")


def _explain(walk: Walk, names: Sequence[str], parts: Iterable[str]) -> SourceError:
    root, others = walk.root, walk.passed.files()
    but = f", but {others}" if others else ""
    wanted = "one sub-folder for each class is expected"
    if parts:
        return SourceError(
            f"{root} has a part of a split ({', '.join(parts)}), and none called train",
            "Put the training images into train/<class>, or give the part itself.",
        )
    if walk.runs:
        return SourceError(
            f"{root} holds {counted(walk.runs, 'run')} of Opsin, and only their figures",
            "Give the images that they were trained on; see the runs with: opsin runs",
        )
    if walk.passed.counts[LINK_OUT]:
        return SourceError(f"{root} holds only links that lead out of it", _FOLLOW)
    if walk.folders:
        tops = ", ".join([name for name in walk.folders if "/" not in name][:5])
        return SourceError(
            f"{root} has the folders {tops}, and none of them holds images{but}; {wanted}", _ENDINGS
        )
    if names:
        return SourceError(
            f"{root} has {counted(len(names), 'image')} but no folders{but}; {wanted}",
            "Sort a few into sub-folders first.",
        )
    return SourceError(
        f"{root} is empty; {wanted}" if "" in walk.bare else f"{root} has no images{but}; {wanted}"
    )


def stream_of_walk(
    walk: Walk, images: Iterable[ListedImage], watcher: Watcher
) -> Iterator[ListedImage]:
    """Yield the images of a walk, then note what it passed over; raise if there are none."""
    has_images = False
    for image in images:
        has_images = True
        yield image
    if has_images:
        note_passed_over(walk, watcher)
        note_left_out(walk.passed.listed(), watcher)
        return
    links, others = walk.passed.counts[LINK_OUT], walk.passed.files()
    more, advice = f", but {others}" if others else "", _ENDINGS
    if links:
        more, advice = f", but {links:,} links that lead out of it", _FOLLOW
    elif walk.runs:
        more = f", but {walk.runs:,} runs of Opsin, whose figures are no images of yours"
        advice = "Give the images that are to be classified."
    elif walk.unreadable:
        more = f", but {counted(len(walk.unreadable), 'folder')} that cannot be read"
        advice = f"Check their rights; the first is {walk.unreadable[0]}."
    raise SourceError(f"{walk.root} has no images{more}", advice)


def _locate(request: SourceRequest) -> LocatedSource:
    written = request.written
    if request.archive is None and is_run(str(request.path)):
        raise SourceError(
            f"{written} is a run of Opsin, which holds figures",
            f"To train it further: opsin resume {written}; to classify with it: opsin predict "
            f"{written} IMAGE; to measure it: opsin evaluate {written} SOURCE.",
        )
    contents = open_folder(request.path, follow_links=request.follow_links, watcher=request.watcher)
    return contents.located_by_files()


def folder_stream(request: SourceRequest) -> Stream:
    """Return the images below a folder."""

    def walk() -> ImageTree:
        return ImageTree(request.path, follow_links=request.follow_links, stream=True)

    def images() -> Iterator[ListedImage]:
        tree = walk()
        listed = (ListedImage(name, f"{tree.root}/{name}") for name in tree.images())
        return stream_of_walk(tree, listed, request.watcher)

    def count() -> int | None:
        try:
            return sum(1 for _ in walk().images())
        except SourceError:
            return None

    return Stream(request.written, "folder", images, count)


KINDS = (
    SourceKind(
        title="a folder",
        match=lambda request: request.is_folder,
        locate=_locate,
        iter_unlabelled=folder_stream,
        rank=3,
    ),
)
