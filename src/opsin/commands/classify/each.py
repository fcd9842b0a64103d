"""Answers one by one; nothing is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from opsin.commands.classify.pipeline import Answered, classify_stream
from opsin.commands.classify.results import row_of
from opsin.commands.classify.selection import Selection
from opsin.commands.own_images import noting_looks
from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import refuse_swapped
from opsin.core.errors import ImageError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.data.image_stream import Stream, join_streams
from opsin.data.shard import Shard
from opsin.data.sources import STANDARD_INPUT, open_stream
from opsin.data.stream_shard import cut_stream
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction


def open_streams(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    columns: Mapping[str, str] | None = None,
    follow_links: bool = False,
    outside: bool = False,
    stdin: BinaryIO | None = None,
    shard: Shard | None = None,
    once: bool = True,
    watcher: Watcher = SILENT,
) -> Stream:
    """Find the images of one source or of several, without reading any: see `open_stream`.

    Of a shard, the names of all images are listed at once.

    Args:
        sources: One source or several.
        columns: See `open_stream`, as for the others.
        follow_links: See there.
        outside: See there.
        stdin: See there.
        shard: Which part of the images is wanted (default: all).
        once: Whether a shard counts images of the same name as one.
        watcher: Receives notes about what was passed over.

    Raises:
        SourceError: There is no such source, or it is of another kind.
        RecipeError: A shard of standard input is wanted.
    """
    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not several:
        raise SourceError("one source or more", "got none", "Check what was to find them.")
    if sum(os.fspath(source) == STANDARD_INPUT for source in several) > 1:
        raise SourceError(
            "- once, for standard input can be read only once", "got it twice", "Give it once."
        )

    def opened(watcher: Watcher) -> Stream:
        return join_streams(
            [
                open_stream(
                    source,
                    columns=columns,
                    follow_links=follow_links,
                    outside=outside,
                    stdin=stdin,
                    watcher=watcher,
                )
                for source in several
            ]
        )

    if shard is None:
        return opened(watcher)
    if STANDARD_INPUT in {os.fspath(source) for source in several}:
        raise RecipeError(
            "a source that each shard's process can read for itself",
            "- is standard input",
            "Write the names into a table with a column path, and give that.",
        )
    return cut_stream(opened(watcher), shard, opened(SILENT), once=once)


def refuse_swapped_sources(
    model: str | os.PathLike[str] | Classifier,
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> None:
    """Refuse a classifier and images that were given in the wrong order.

    Raises:
        RecipeError: They were.
    """
    several = [sources] if isinstance(sources, str | os.PathLike) else sources
    refuse_swapped(model, several, "opsin predict {model} {images}")


def open_classifier(
    model: str | os.PathLike[str] | Classifier, *, device: str = "auto", watcher: Watcher = SILENT
) -> Classifier:
    """Open a classifier for many images; one that is open stays as it is."""
    # Several threads would add up an image's numbers in an order that depends on its batch.
    if isinstance(model, Classifier):
        return model
    return Classifier(model, threads=1, device=device, watcher=watcher)


def note_unused_views(classifier: Classifier, watcher: Watcher) -> None:
    """Note why views are not used, where they were asked for."""
    if classifier.without_views:
        watcher.note(classifier.without_views)


def each_answer(
    classifier: Classifier,
    stream: Stream,
    *,
    where: Sequence[str] = (),
    min_confidence: float = 0.0,
    reject: bool = True,
    as_is: bool = False,
    tta: bool = False,
    watcher: Watcher = SILENT,
) -> Iterator[Answered]:
    """Yield each image with its answer, or why there is none, those that were asked for.

    Args:
        classifier: An open classifier.
        stream: The images.
        where: Which answers are wanted: see `classify`.
        min_confidence: Least probability of the label, 0 to 1.
        reject: Whether images unlike the training images are answered by ``none of these``.
        as_is: Leave backgrounds as they are.
        tta: Average the answers to a few variations of each image.
        watcher: Receives how many are the run's own test images.

    Raises:
        RecipeError: A condition that cannot work.
        SourceError: The source turned out to be damaged.
    """
    rejects = reject and classifier.metadata.reject is not None
    selection = Selection(where, min_confidence, classifier.classes, rejects=rejects)
    answers = classify_stream(classifier, stream, as_is=as_is, tta=tta)
    return _selected(noting_looks(answers, classifier, watcher), selection, reject=reject)


def _selected(
    answers: Iterator[Answered], selection: Selection, *, reject: bool
) -> Iterator[Answered]:
    for image, answer in answers:
        if not selection.keeps(row_of(image.name, answer, 1, reject=reject)):
            continue
        if isinstance(answer, Prediction) and not reject:
            yield image, replace(answer, rejected=False)
        else:
            yield image, answer


@checked
def predict_each(
    model: str | os.PathLike[str] | Classifier,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    where: Sequence[str] = (),
    min_confidence: float = 0.0,
    reject: bool = True,
    as_is: bool = False,
    tta: bool = False,
    columns: Mapping[str, str] | None = None,
    follow_links: bool = False,
    outside: bool = False,
    stdin: BinaryIO | None = None,
    device: str = "auto",
    watcher: Watcher = SILENT,
) -> Iterator[Prediction | ImageError]:
    """Yield the answer for each image of a source, or why there is none; no file is written.

    Arguments and errors are those of `classify`. Memory does not grow with the number of images.

    Example:
        >>> for answer in predict_each("runs/boots", "photos"):  # doctest: +SKIP
        ...     print(answer.name, answer.answer)
    """
    refuse_swapped_sources(model, source)
    stream = open_streams(
        source,
        columns=columns,
        follow_links=follow_links,
        outside=outside,
        stdin=stdin,
        watcher=watcher,
    )
    classifier = open_classifier(model, device=device, watcher=watcher)
    if tta:
        note_unused_views(classifier, watcher)
    answers = each_answer(
        classifier, stream, where=where, min_confidence=min_confidence, reject=reject,
        as_is=as_is, tta=tta, watcher=watcher,
    )  # fmt: skip
    return (answer for _, answer in answers)
