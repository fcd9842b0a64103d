"""A folder of images: one sub-folder for each class, or any layout where no labels are needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from opsin.core.artifacts.dataset_record import LeftOut
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.data.formats import SUFFIXES
from opsin.data.image_stream import Stream, Unlabelled
from opsin.data.image_tree import ImageTree, is_run, natural
from opsin.data.left_out import NOTED, left_out_in_words
from opsin.data.sources.contents import (
    Files,
    LabelledImages,
    LocatedSource,
    UnpreparedImages,
    key_of_files,
)
from opsin.data.sources.key_tree import KeyTree
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow
from opsin.data.spelling import nfc
from opsin.data.split import TRAIN, UNASSIGNED, part_named

_USUAL = ("train", "val", "test")


def open_folder(
    root: Path, *, follow_links: bool = False, watcher: Watcher = SILENT
) -> LabelledImages:
    """List ``root/<class>/**/*`` or ``root/train|val|test/<class>/**/*``.

    Parts may have any of their usual names (`part_named`). Class names are the folders' names in
    natural order (``2`` before ``10``), compared in NFC; images may lie in
    folders within these, to any depth. Hidden files and folders are passed over, and so are files
    that do not end like an image.

    Args:
        root: The folder; it may be a link itself.
        follow_links: Also follow symbolic links that lead out of the folder.
        watcher: Receives a note on links that were passed over.

    Raises:
        SourceError: The folder is empty or laid out otherwise, or holds parts beside other
            folders; or a class has nothing but links that lead out of it.
    """
    tree = ImageTree(root, follow_links=follow_links)
    return labelled_tree(tree, str(root), lambda names: Files(root, names), watcher)


def labelled_tree(
    tree: ImageTree | KeyTree,
    source: str,
    images_of: Callable[[Sequence[str]], UnpreparedImages],
    watcher: Watcher,
) -> LabelledImages:
    """Do the work of `open_folder`, for folders and for what looks like folders.

    Args:
        tree: The images.
        source: What the user calls them.
        images_of: Returns the images of some names.
        watcher: Receives notes.
    """
    folders = tree.folders("")
    # A class, too, may be called "test".
    parts = {name: code for name in folders
             if (code := part_named(name)) is not None and tree.folders(name)}  # fmt: skip
    if TRAIN in parts.values():
        found = [(f"{part}/{name}", code) for part, code in parts.items()
                 for name in tree.folders(part)]  # fmt: skip
        _check_only_parts(tree, source, parts, [name for name in folders if name not in parts])
        _tell_loose(tree, [name for name in folders if name not in parts], watcher)
    elif parts and len(parts) == len(folders):
        raise _explain(tree, folders, parts)
    else:
        found = [(name, UNASSIGNED) for name in folders]
    names: list[str] = []
    listed: list[tuple[str, int, int]] = []
    for folder, code in found:
        images = _images_of_class(tree, folder)
        if images:
            names += images
            listed.append((folder.rpartition("/")[2], code, len(images)))
        else:
            what = "empty folder" if folder in tree.bare else "folder without images"
            tree.passed.add(what, folder)
    for place in ("", *parts) if TRAIN in parts.values() else ("",):
        for name in tree.loose(place):
            tree.passed.add("loose image beside the class folders", name)
    if not listed:
        raise _explain(tree, folders, parts)
    note_passed_over(tree, watcher)
    classes = order_classes((name for name, _, _ in listed), source)
    if TRAIN in parts.values() and not set(parts) <= set(_USUAL):
        in_order = sorted(parts.items(), key=lambda part: part[1])
        words = [f"{name} ({_USUAL[code - 1]})" for name, code in in_order]
        watcher.note(f"Taken for parts of a split: {', '.join(words)}")
    label = {nfc(name): index for index, name in enumerate(classes)}
    counts = [count for _, _, count in listed]
    return LabelledImages(
        source=source,
        classes=classes,
        labels=np.repeat(np.array([label[nfc(name)] for name, _, _ in listed], np.int64), counts),
        given=np.repeat(np.array([code for _, code, _ in listed], np.uint8), counts),
        names=names,
        images=images_of(names),
        left_out=tree.passed.listed(),
    )


def images_in_folder(
    root: Path, *, follow_links: bool = False, watcher: Watcher = SILENT
) -> Iterator[Unlabelled]:
    """Yield each image in a folder of any layout and in all below it, once.

    They come in the order of `ImageTree.images`, which says what is passed over; a folder within
    that cannot be read is passed over too.

    Args:
        root: The folder; it may be a link itself.
        follow_links: Also follow symbolic links that lead out of the folder.
        watcher: Receives a note for each kind of thing that was passed over.

    Raises:
        SourceError: The folder cannot be read, or holds no images.
    """
    tree = ImageTree(root, follow_links=follow_links, stream=True)
    found = False
    for name in tree.images():
        found = True
        place = f"{tree.root}/{name}"
        yield Unlabelled(name, place, place)
    if not found:
        raise explain_no_images(tree)
    note_passed_over(tree, watcher)
    note_left_out(tree.passed.listed(), watcher)


def count_images(root: Path, *, follow_links: bool = False) -> int | None:
    """Return how many images `images_in_folder` will yield."""
    try:
        tree = ImageTree(root, follow_links=follow_links, stream=True)
        return sum(1 for _ in tree.images())
    except SourceError:
        return None


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


def _tell_loose(tree: ImageTree | KeyTree, others: Iterable[str], watcher: Watcher) -> None:
    """Say which folders beside the parts hold images, such as the tests of competitions."""
    for name in others:
        images = _images_of_class(tree, name)
        for image in images:
            tree.passed.add("image outside the parts", image)
        loose = len(images)
        if loose and part_named(name) is not None:
            watcher.note(
                f"Passed over: {loose:,} images in {name}, for they have no class (sort them "
                "into a folder for each class, or classify them: opsin predict)"
            )


def order_classes(names: Iterable[str], source: str | Path) -> tuple[str, ...]:
    """Return different class names in natural order, as they are written first.

    Raises:
        SourceError: One of them cannot be shown.
    """
    written: dict[str, str] = {}
    for name in names:
        written.setdefault(nfc(name), name)
    classes = [written[name] for name in sorted(sorted(written), key=natural)]
    for name in classes:
        if not name.isprintable():
            raise SourceError(
                "class names of printable characters",
                f"{source} has {name!r}",
                "Rename the class.",
            )
    return tuple(classes)


def _images_of_class(tree: ImageTree | KeyTree, folder: str) -> list[str]:
    """List a class's images.

    Raises:
        SourceError: It holds only links that lead out of the root.
    """
    left_out = tree.left_out
    images = list(tree.images(folder))
    if not images and tree.left_out > left_out:
        raise SourceError(
            f"images within {tree.root}",
            f"the folder {folder} holds only links that lead out of it",
            "Follow them with --follow-links, or copy the images.",
        )
    return images


def _check_only_parts(
    tree: ImageTree | KeyTree, source: str, parts: Collection[str], others: Iterable[str]
) -> None:
    """Refuse folders of images beside the parts of a split: which are classes?

    Raises:
        SourceError: There are some.
    """
    strange = [name for name in others
               if part_named(name) is None and next(tree.images(name), None)]  # fmt: skip
    if strange:
        raise SourceError(
            "the parts of a split, or one sub-folder for each class",
            f"{source} has {', '.join(parts)}, which look like parts, and {', '.join(strange[:5])}",
            "Take the others away if these are parts; rename these if all are classes.",
        )


def _explain(tree: ImageTree | KeyTree, folders: list[str], parts: Collection[str]) -> SourceError:
    root, loose = tree.root, tree.loose()
    if parts:
        received = f"{root} has a part of a split ({', '.join(parts)}), and none called train"
        advice = "Put the training images into train/<class>, or give the part itself."
    elif tree.runs:
        received = (
            f"{root} holds {counted(tree.runs, 'run')} of Opsin, and no images but their figures"
        )
        advice = "Give the images that they were trained on; see the runs with: opsin runs"
    elif tree.left_out:
        received = f"{root} holds only links that lead out of it"
        advice = "Follow them with --follow-links, or copy the images."
    elif folders:
        names = ", ".join(folders[:5])
        received = f"{root} has the folders {names}, and none of them holds images"
        advice = f"Images end in {', '.join(SUFFIXES[:6])} …, one folder for each class."
    elif loose:
        received = f"{root} holds {counted(len(loose), 'image')} and no folders"
        advice = "Sort a few into sub-folders first."
    else:
        received = f"{root} is empty" if tree.is_empty() else f"{root} holds no images"
        advice = "Put images into one sub-folder for each class."
    if others := tree.passed.files():
        received += f", but {others}"
    return SourceError("a folder with one sub-folder for each class", received, advice)


def explain_no_images(tree: ImageTree | KeyTree) -> SourceError:
    """Return what is said of a source that has no images."""
    received = f"{tree.root} holds none"
    advice = f"Images end in {', '.join(SUFFIXES[:6])} …"
    if tree.left_out:
        received += f", but {tree.left_out:,} links that lead out of it"
        advice = "Follow them with --follow-links, or copy the images."
    elif tree.runs:
        received += f", but {tree.runs:,} runs of Opsin, whose figures are no images of yours"
        advice = "Give the images that are to be classified."
    elif tree.unreadable:
        received += f", and {counted(tree.unreadable, 'folder')} that cannot be read"
        advice = f"Check their rights; the first is {tree.first_unreadable}."
    elif others := tree.passed.files():
        received += f", but {others}"
    return SourceError("a folder with images", received, advice)


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
    path, follow_links = request.path, request.follow_links
    return Stream(
        request.written,
        "folder",
        lambda: images_in_folder(path, follow_links=follow_links, watcher=request.watcher),
        lambda: count_images(path, follow_links=follow_links),
    )


KIND = SourceKind(
    title="a folder",
    rows=(
        SourceRow(
            "a folder",
            "`photos/<class>/…/*.jpg`, to any depth; class names in natural order",
            "cut by Opsin",
        ),
        SourceRow(
            "a folder with parts",
            "`photos/train/<class>/…`, `photos/val/<class>/…`, `photos/test/<class>/…`, also "
            "called `training`, `valid`, `validation`, `dev`, `testing`, `holdout`, `train_set` …",
            "as given; `val` is cut from `train` where it is missing",
        ),
    ),
    match=lambda request: request.is_folder,
    locate=_locate,
    iter_unlabelled=_iter_unlabelled,
    rank=3,
)
