"""Several sources, opened as one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from opsin.core.errors import SourceError
from opsin.data.image_tree import natural
from opsin.data.left_out import add_up
from opsin.data.sources.contents import ChainedImages, Files, LabelledImages, UnpreparedImages
from opsin.data.spelling import nfc, places_among
from opsin.data.split import TEST, TRAIN, UNASSIGNED


def join(
    parts: Sequence[tuple[str, LabelledImages]], test: tuple[str, LabelledImages] | None
) -> LabelledImages:
    """Put sources behind each other."""
    lists = [contents.classes for _, contents in parts]
    same = len({tuple(map(nfc, names)) for names in lists}) == 1
    written = {nfc(name): name for names in reversed(lists) for name in names}
    classes = lists[0] if same else tuple(written[name] for name in sorted(written, key=natural))
    given = [contents.given for _, contents in parts]
    if test is not None:
        _check_test(test, parts, classes)
        # What remains of the others is for training and validation.
        given = [np.where(codes == UNASSIGNED, TRAIN, codes).astype(np.uint8) for codes in given]
        given.append(np.full(len(test[1]), TEST, np.uint8))
        parts = [*parts, test]
    _check_once([(name, each.images) for name, each in parts if isinstance(each.images, Files)])
    sources, contents = [source for source, _ in parts], [each for _, each in parts]
    titles = [Path(source).name.split(".")[0] or source for source in sources]
    if len(set(titles)) < len(titles):
        titles = [f"{number}-{title}" for number, title in enumerate(titles, start=1)]
    labels = [
        np.array(places_among(each.classes, classes), np.int64)[each.labels] for each in contents
    ]
    lines = [
        np.zeros(len(each), np.int64) if each.lines is None else each.lines for each in contents
    ]
    groups = [group for each in contents for group in (each.groups or [""] * len(each))]
    return LabelledImages(
        source=" + ".join(sources),
        classes=classes,
        labels=np.concatenate(labels),
        given=np.concatenate(given),
        names=[f"{title}/{name}" for title, each in zip(titles, contents, strict=True)
               for name in each.names],
        images=_together([each.images for each in contents]),
        groups=groups if any(each.groups for each in contents) else (),
        mirrored=all(each.mirrored for each in contents),
        left_out=add_up(each.left_out for each in contents),
        lines=np.concatenate(lines) if any(each.lines is not None for each in contents) else None,
        repeated=sum(each.repeated for each in contents),
    )  # fmt: skip


def _together(parts: Sequence[UnpreparedImages]) -> UnpreparedImages:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts) and len({(each.shape[1:], each.dtype) for each in arrays}) == 1:
        return np.concatenate(arrays)
    files = [part for part in parts if isinstance(part, Files)]
    if len(files) == len(parts):
        return Files(Path(), [place for part in files for place in part.places()])
    return ChainedImages(parts)


def _check_once(parts: Sequence[tuple[str, Files]]) -> None:
    """Refuse images that two sources hold: one lies in another, or two tables name them."""
    seen: dict[str, str] = {}
    for source, files in parts:
        for name in Files(Path(os.path.realpath(files.folder)), files.names).places():
            place = os.path.normpath(name)
            if seen.setdefault(place, source) != source:
                raise SourceError(
                    f"{place} is in {seen[place]} and in {source}", "Leave one of the two out."
                )


def _check_test(
    test: tuple[str, LabelledImages],
    parts: Sequence[tuple[str, LabelledImages]],
    classes: Sequence[str],
) -> None:
    source, contents = test
    places = places_among(contents.classes, classes)
    unknown = [name for name, place in zip(contents.classes, places, strict=True) if place < 0]
    if unknown:
        raise SourceError(
            f"{source} has the classes {', '.join(unknown[:5])}, which the training images lack",
            f"They have {', '.join(classes[:10])}.",
        )
    for other, each in parts:
        if np.any(each.given == TEST):
            raise SourceError(
                f"{other} has a test part of its own beside {source}",
                "Leave --test out, or give the training part alone.",
            )
