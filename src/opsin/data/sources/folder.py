"""A folder of images: one sub-folder for each class, or any layout where no labels are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from opsin.core.artifacts.records import LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.data.formats import SUFFIXES
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import ImageTree, is_run
from opsin.data.left_out import NOTED, left_out_in_words
from opsin.data.sources.contents import (
    Files,
    LabelledImages,
    LocatedSource,
    Row,
    RowCollector,
    UnpreparedImages,
    key_of_files,
)
from opsin.data.sources.key_tree import KeyTree
from opsin.data.sources.source_kind import SourceKind, SourceRequest
from opsin.data.split import TRAIN, part_named

_USUAL = ("train", "val", "test")
_ENDINGS = f"Images end in {', '.join(SUFFIXES[:6])} …"
_FOLLOW = "Follow them with --follow-links, or copy the images."


def open_folder(
    root: Path, *, follow_links: bool = False, watcher: Watcher = SILENT
) -> LabelledImages:
    """List ``root/<class>/**/*`` or ``root/train|val|test/<class>/**/*``."""
    tree = ImageTree(root, follow_links=follow_links)
    return labelled_tree(tree, str(root), lambda names: Files(root, names), watcher)


def labelled_tree(
    tree: ImageTree | KeyTree,
    source: str,
    images_of: Callable[[Sequence[str]], UnpreparedImages],
    watcher: Watcher,
) -> LabelledImages:
    """Do the work of `open_folder`, for folders and for what looks like folders."""
    folders = tree.folders("")
    # A class, too, may be called "test".
    parts = {name: code for name in folders
             if (code := part_named(name)) is not None and tree.folders(name)}  # fmt: skip
    split = TRAIN in parts.values()
    if split:
        classes = [(f"{part}/{name}", part) for part in parts for name in tree.folders(part)]
        _look_beside_parts(tree, source, parts, folders, watcher)
    elif parts and len(parts) == len(folders):
        raise _explain(tree, folders, parts)
    else:
        classes = [(name, "") for name in folders]
    found = RowCollector()
    for folder, part in classes:
        images = _images_of_class(tree, folder)
        for name in images:
            found.add(Row(name, folder.rpartition("/")[2], part, name=name))
        if not images:
            what = "empty folder" if folder in tree.bare else "folder without images"
            tree.passed.add(what, folder)
    for place in ("", *parts) if split else ("",):
        for name in tree.loose(place):
            tree.passed.add("loose image beside the class folders", name)
    if not found.names:
        raise _explain(tree, folders, parts)
    note_passed_over(tree, watcher)
    if split and not set(parts) <= set(_USUAL):
        in_order = sorted(parts.items(), key=lambda part: part[1])
        words = [f"{name} ({_USUAL[code - 1]})" for name, code in in_order]
        watcher.note(f"Taken for parts of a split: {', '.join(words)}")
    return replace(found.labelled(source, images_of(found.names)), left_out=tree.passed.listed())


def _images_of_class(tree: ImageTree | KeyTree, folder: str) -> list[str]:
    left_out = tree.left_out
    images = list(tree.images(folder))
    if not images and tree.left_out > left_out:
        raise SourceError(
            f"images within {tree.root}",
            f"the folder {folder} holds only links that lead out of it",
            _FOLLOW,
        )
    return images


def _look_beside_parts(
    tree: ImageTree | KeyTree,
    source: str,
    parts: Collection[str],
    folders: Iterable[str],
    watcher: Watcher,
) -> None:
    """Refuse folders of images beside the parts (which are classes?), and count loose images."""
    others = [name for name in folders if name not in parts]
    strange = [name for name in others
               if part_named(name) is None and next(tree.images(name), None)]  # fmt: skip
    if strange:
        raise SourceError(
            "the parts of a split, or one sub-folder for each class",
            f"{source} has {', '.join(parts)}, which look like parts, and {', '.join(strange[:5])}",
            "Take the others away if these are parts; rename these if all are classes.",
        )
    for name in others:  # such as the tests of competitions
        images = _images_of_class(tree, name)
        for image in images:
            tree.passed.add("image outside the parts", image)
        if images:
            watcher.note(
                f"Passed over: {len(images):,} images in {name}, for they have no class (sort them "
                "into a folder for each class, or classify them: opsin predict)"
            )


def note_passed_over(tree: ImageTree | KeyTree, watcher: Watcher) -> None:
    """Note what a walk has passed over and what can be done about it."""
    if tree.left_out:
        watcher.note(
            f"Passed over, for they lead out of {tree.root}: links, {tree.left_out:,} in all; "
            "--follow-links follows them."
        )
    if tree.runs:
        watcher.note(
            f"Passed over in {tree.root}: runs of Opsin, {tree.runs:,} in all; they hold figures."
        )
    if tree.unreadable:
        watcher.note(
            f"Passed over: folders that cannot be read, {tree.unreadable:,} in all "
            f"({tree.first_unreadable}); check their rights."
        )


def note_left_out(left_out: Iterable[LeftOut], watcher: Watcher) -> None:
    """Note what is left out, but for what `note_passed_over` has said."""
    rest = [each for each in left_out if not each.kind.startswith(NOTED)]
    if rest:
        watcher.note(f"Left out: {left_out_in_words(rest)}")


def _explain(tree: ImageTree | KeyTree, folders: list[str], parts: Collection[str]) -> SourceError:
    root, loose = tree.root, tree.loose()
    advice = "Put images into one sub-folder for each class."
    if parts:
        received = f"{root} has a part of a split ({', '.join(parts)}), and none called train"
        advice = "Put the training images into train/<class>, or give the part itself."
    elif tree.runs:
        received = f"{root} holds {counted(tree.runs, 'run')} of Opsin, and only their figures"
        advice = "Give the images that they were trained on; see the runs with: opsin runs"
    elif tree.left_out:
        received, advice = f"{root} holds only links that lead out of it", _FOLLOW
    elif folders:
        names = ", ".join(folders[:5])
        received = f"{root} has the folders {names}, and none of them holds images"
        advice = f"{_ENDINGS}, one folder for each class."
    elif loose:
        received = f"{root} holds {counted(len(loose), 'image')} and no folders"
        advice = "Sort a few into sub-folders first."
    else:
        received = f"{root} is empty" if tree.is_empty() else f"{root} holds no images"
    if others := tree.passed.files():
        received += f", but {others}"
    return SourceError("a folder with one sub-folder for each class", received, advice)


def explain_no_images(tree: ImageTree | KeyTree) -> SourceError:
    """Return what is said of a source that has no images."""
    more, advice = "", _ENDINGS
    if tree.left_out:
        more, advice = f", but {tree.left_out:,} links that lead out of it", _FOLLOW
    elif tree.runs:
        more = f", but {tree.runs:,} runs of Opsin, whose figures are no images of yours"
        advice = "Give the images that are to be classified."
    elif tree.unreadable:
        more = f", and {counted(tree.unreadable, 'folder')} that cannot be read"
        advice = f"Check their rights; the first is {tree.first_unreadable}."
    elif others := tree.passed.files():
        more = f", but {others}"
    return SourceError("a folder with images", f"{tree.root} holds none{more}", advice)


def _locate(request: SourceRequest) -> LocatedSource:
    place = request.written
    if request.archive is None and is_run(str(request.path)):
        raise SourceError(
            "images with labels",
            f"{place} is a run of Opsin, which holds figures",
            f"To train it further: opsin resume {place}; to classify with it: opsin predict "
            f"{place} IMAGE; to measure it: opsin evaluate {place} SOURCE.",
        )
    contents = open_folder(request.path, follow_links=request.follow_links, watcher=request.watcher)
    files = [contents.images] if isinstance(contents.images, Files) else []
    return LocatedSource(key_of_files(*files), lambda: contents, contents.left_out)


def _iter_unlabelled(request: SourceRequest) -> Stream:
    def walk() -> ImageTree:
        return ImageTree(request.path, follow_links=request.follow_links, stream=True)

    def images() -> Iterator[ListedImage]:
        tree, found = walk(), False
        for name in tree.images():
            found = True
            place = f"{tree.root}/{name}"
            yield ListedImage(name, place)
        if not found:
            raise explain_no_images(tree)
        note_passed_over(tree, request.watcher)
        note_left_out(tree.passed.listed(), request.watcher)

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
        iter_unlabelled=_iter_unlabelled,
        rank=3,
    ),
)
