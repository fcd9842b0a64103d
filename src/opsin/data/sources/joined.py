"""Several sources, opened as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opsin.data.sources.contents import Contents, Files, Pictures
from opsin.data.sources.folder import natural
from opsin.data.split import TEST, TRAIN, UNASSIGNED
from opsin.errors import SourceError


def join(parts: Sequence[tuple[str, Contents]], test: tuple[str, Contents] | None) -> Contents:
    """Put sources behind each other.

    Classes of the same name are one class. Where the sources' lists of classes differ, the whole
    is in natural order. Names begin with their source's.

    Args:
        parts: What each source is called, and what it holds.
        test: A source whose pictures are all for the test, whatever it says of them itself; test
            pictures of the other sources are then refused, since there can be one test set only.

    Raises:
        SourceError: The test source has classes that the others lack, or the others name test
            pictures as well.
    """
    lists = {contents.classes for _, contents in parts}
    classes = (
        parts[0][1].classes
        if len(lists) == 1
        else tuple(sorted({name for names in lists for name in names}, key=natural))
    )
    everything = list(parts)
    given = [contents.given for _, contents in parts]
    if test is not None:
        _check_test(test, parts, classes)
        # What remains of the others is for training and validation.
        given = [np.where(codes == UNASSIGNED, TRAIN, codes).astype(np.uint8) for codes in given]
        given.append(np.full(len(test[1]), TEST, np.uint8))
        everything.append(test)
    label = {name: index for index, name in enumerate(classes)}
    titles = _titles([source for source, _ in everything])
    contents = [each for _, each in everything]
    return Contents(
        source=" + ".join(source for source, _ in everything),
        classes=classes,
        labels=np.concatenate(
            [np.array([label[n] for n in each.classes], np.int64)[each.labels] for each in contents]
        ),
        given=np.concatenate(given),
        names=[
            f"{title}/{name}"
            for title, each in zip(titles, contents, strict=True)
            for name in each.names
        ],
        pictures=_together([each.pictures for each in contents]),
        groups=(
            [group for each in contents for group in (each.groups or [""] * len(each))]
            if any(each.groups for each in contents)
            else ()
        ),
        mirrored=all(each.mirrored for each in contents),
    )


def _check_test(
    test: tuple[str, Contents], parts: Sequence[tuple[str, Contents]], classes: Sequence[str]
) -> None:
    source, contents = test
    unknown = [name for name in contents.classes if name not in classes]
    if unknown:
        raise SourceError(
            f"test pictures of the classes {', '.join(classes[:10])}",
            f"{source} also has {', '.join(unknown[:5])}",
            "Name its classes as the training pictures' are named.",
        )
    for other, each in parts:
        if np.any(each.given == TEST):
            raise SourceError(
                "one set of test pictures",
                f"{other} has a test part of its own beside {source}",
                "Leave --test out, or give the training part alone.",
            )


def _together(parts: Sequence[Pictures]) -> Pictures:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts) and len({array.shape[1:] for array in arrays}) == 1:
        whole: NDArray[np.uint8] = np.concatenate(arrays)
        return whole
    files = [part for part in parts if isinstance(part, Files)]
    if len(files) == len(parts):
        return Files(Path(), [place for part in files for place in part.places()])
    return [picture for part in parts for picture in part]


def _titles(sources: Sequence[str]) -> list[str]:
    """Return a short name for each source, different ones for different places."""
    stems = [Path(source).name.split(".")[0] or source for source in sources]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{number}-{stem}" for number, stem in enumerate(stems, start=1)]
