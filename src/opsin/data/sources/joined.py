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
    """Concatenate sources."""
    lists = [contents.classes for _, contents in parts]
    same = len({tuple(map(nfc, names)) for names in lists}) == 1
    written = {nfc(name): name for names in reversed(lists) for name in names}
    classes = lists[0] if same else tuple(written[name] for name in sorted(written, key=natural))
    given = [contents.given for _, contents in parts]
    if test is not None:
        _check_test(test, parts, classes)
        # Unassigned images of the others are for training and validation.
        given = [np.where(codes == UNASSIGNED, TRAIN, codes).astype(np.uint8) for codes in given]
        given.append(np.full(len(test[1]), TEST, np.uint8))
        parts = [*parts, test]
    _check_once([(name, part.images) for name, part in parts if isinstance(part.images, Files)])
    sources, contents = [source for source, _ in parts], [part for _, part in parts]
    titles = [Path(source).name.split(".")[0] or source for source in sources]
    if len(set(titles)) < len(titles):
        titles = [f"{number}-{title}" for number, title in enumerate(titles, start=1)]
    labels = [
        np.array(places_among(part.classes, classes), np.int64)[part.labels] for part in contents
    ]
    lines = [
        np.zeros(len(part), np.int64) if part.lines is None else part.lines for part in contents
    ]
    groups = [group for part in contents for group in (part.groups or [""] * len(part))]
    return LabelledImages(
        source=" + ".join(sources),
        classes=classes,
        labels=np.concatenate(labels),
        given=np.concatenate(given),
        names=[f"{title}/{name}" for title, part in zip(titles, contents, strict=True)
               for name in part.names],
        images=_together([part.images for part in contents]),
        groups=groups if any(part.groups for part in contents) else (),
        mirrored=all(part.mirrored for part in contents),
        left_out=add_up(part.left_out for part in contents),
        lines=np.concatenate(lines) if any(part.lines is not None for part in contents) else None,
        repeated=sum(part.repeated for part in contents),
    )  # fmt: skip


def _together(parts: Sequence[UnpreparedImages]) -> UnpreparedImages:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts) and len({(array.shape[1:], array.dtype) for array in arrays}) == 1:
        return np.concatenate(arrays)
    files = [part for part in parts if isinstance(part, Files)]
    if len(files) == len(parts):
        return Files(Path(), [path for part in files for path in part.places()])
    return ChainedImages(parts)


def _check_once(parts: Sequence[tuple[str, Files]]) -> None:
    """Refuse images in two sources, such as a folder inside another."""
    seen: dict[str, str] = {}
    for source, files in parts:
        for name in Files(Path(os.path.realpath(files.folder)), files.names).places():
            path = os.path.normpath(name)
            if seen.setdefault(path, source) != source:
                raise SourceError(
                    f"{path} is in {seen[path]} and in {source}", "Leave one of the two out."
                )


def _check_test(
    test: tuple[str, LabelledImages],
    parts: Sequence[tuple[str, LabelledImages]],
    classes: Sequence[str],
) -> None:
    source, contents = test
    indices = places_among(contents.classes, classes)
    unknown = [name for name, index in zip(contents.classes, indices, strict=True) if index < 0]
    if unknown:
        raise SourceError(
            f"{source} has the classes {', '.join(unknown[:5])}, which the training images lack",
            f"They have {', '.join(classes[:10])}.",
        )
    for other, part in parts:
        if np.any(part.given == TEST):
            raise SourceError(
                f"{other} has a test part of its own beside {source}",
                "Leave --test out, or give the training part alone.",
            )
