"""Images of one source or several, their answers one by one, and figures of answers."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar, Unpack

import numpy as np

from opsin.commands.test_set_usage import noting_looks
from opsin.core.arguments import checked
from opsin.core.errors import ImageError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.storage import check_writable
from opsin.data import image_stream
from opsin.data.image_engine import ImageSteps, answer_images
from opsin.data.images import ImageLike, PreparedImage, open_image
from opsin.data.lazy_images import THREADS
from opsin.data.sources import Reading, open_stream
from opsin.runtime.classifier import Classifier
from opsin.runtime.prediction import Prediction
from opsin.runtime.providers import CPU

if TYPE_CHECKING:
    from opsin.runtime.cluster import Cluster

Answered = tuple[image_stream.ListedImage, Prediction | ImageError]
Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_Kept = TypeVar("_Kept")

# Answers are kept at least this often: images, and seconds.
_BATCH, _OFTEN = 512, 0.5
# Seconds between two lines where the number of images is unknown.
_SILENCE: Final = 10.0
# Unreadable files that are named while the work goes on.
_NAMED: Final = 3
_DRAWN: Final = (".png", ".svg", ".pdf")


class Progress(Generic[_Kept]):
    """How far the work on images is, whose answers are kept half a second's at a time."""

    def __init__(
        self,
        what: str,
        total: int | None,
        watcher: Watcher,
        keep: Callable[[list[_Kept]], None],
        *,
        done: int = 0,
    ) -> None:
        #: Images that are finished, those of them that cannot be read, and those passed over: they
        #: are counted where images are read, which may be another thread.
        self.done, self.unreadable, self.passed = done, 0, 0
        self._total, self._watcher, self._keep = total, watcher, keep
        self._batch: list[_Kept] = []
        self._kept = self._noted = time.monotonic()
        if total:
            watcher.begin(what, total, "images")

    def add_unreadable(self, name: str, reason: str) -> None:
        """Note the first few, and count the others."""
        self.unreadable += 1
        if self.unreadable <= _NAMED:
            self._watcher.note(f"{name}: {reason}")

    def add(self, answer: _Kept) -> None:
        """Take an image's answer, to be kept soon."""
        self._batch.append(answer)
        if len(self._batch) >= _BATCH or time.monotonic() - self._kept >= _OFTEN:
            self.keep()

    def keep(self) -> None:
        """Keep all answers so far."""
        batch, self._batch = self._batch, []  # what cannot be kept is never tried again here
        if batch:
            self._keep(batch)
        self.done, self._kept = self.done + len(batch), time.monotonic()
        if self._total:
            self._watcher.advance(min(self.passed + self.done, self._total))
        elif self._kept - self._noted >= _SILENCE:
            self._noted = self._kept
            self._watcher.note(f"{self.passed + self.done:,} images so far")

    def note_unreadable(self, more: str = "") -> None:
        """Say at the end how many could not be read, if some were not named."""
        if self.unreadable > _NAMED:
            self._watcher.note(f"{counted(self.unreadable, 'file')} could not be read{more}")


def open_streams(
    sources: Sources,
    *,
    shard: image_stream.Shard | None = None,
    watcher: Watcher = SILENT,
    **reading: Unpack[Reading],
) -> image_stream.Stream:
    """Find the images of one source or of several, without reading any: see `open_stream`."""
    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    if not several:
        raise SourceError("There is no source")

    def opened(watcher: Watcher) -> image_stream.Stream:
        return image_stream.join_streams(
            [open_stream(source, watcher=watcher, **reading) for source in several]
        )

    if shard is None:
        return opened(watcher)
    return image_stream.cut_stream(opened(watcher), shard, opened(SILENT))


def open_classifier(
    model: str | os.PathLike[str] | Classifier,
    *,
    device: str = "auto",
    tta: bool = False,
    watcher: Watcher = SILENT,
) -> Classifier:
    """Open a classifier for many images; one that is open stays as it is."""
    # Several threads would add up an image's numbers in an order that depends on its batch.
    if not isinstance(model, Classifier):
        model = Classifier(model, threads=1, device=device, watcher=watcher)
    if tta and model.without_views:
        watcher.note(model.without_views)
    return model


def classify_stream(
    classifier: Classifier,
    stream: Iterable[image_stream.ListedImage],
    *,
    as_is: bool = False,
    tta: bool = False,
    cluster: Cluster | None = None,
) -> Generator[Answered]:
    """Yield each image with its answer, or why there is none; from a cluster without pixels."""
    is_here = cluster is None

    def prepare(item: image_stream.ListedImage) -> PreparedImage:
        return classifier.prepare(item.image, item.name, as_is=as_is)

    def compute(batch: list[PreparedImage]) -> Sequence[Prediction]:
        answers = classifier.predict_prepared(batch, tta=tta)
        return answers if is_here else [answer.without_pixels() for answer in answers]

    # Batches that are computed at the same time take the memory of one together.
    together = max(1, THREADS // (classifier.threads or THREADS)) if classifier.device == CPU else 1
    steps: ImageSteps[PreparedImage, Prediction] = ImageSteps(
        prepare=prepare,
        compute=compute,
        pixels=math.prod(classifier.metadata.preparation.shape),
        batch=max(8, classifier.batch_size // together),
        together=together,
    )
    return (answer_images if cluster is None else cluster.answers)(steps, stream)


def each_answer(
    classifier: Classifier,
    stream: image_stream.Stream,
    *,
    reject: bool = True,
    as_is: bool = False,
    tta: bool = False,
    watcher: Watcher = SILENT,
) -> Iterator[Answered]:
    """Yield each image with its answer, or why there is none."""
    answers = classify_stream(classifier, stream, as_is=as_is, tta=tta)
    for image, answer in noting_looks(answers, classifier, watcher):
        if isinstance(answer, ImageError) or reject:
            yield image, answer
        else:
            yield image, replace(answer, rejected=False)


@checked
def predict_each(
    model: str | os.PathLike[str] | Classifier,
    source: Sources,
    *,
    reject: bool = True,
    as_is: bool = False,
    tta: bool = False,
    device: str = "auto",
    watcher: Watcher = SILENT,
    **reading: Unpack[Reading],
) -> Iterator[Prediction | ImageError]:
    """Yield the answer for each image of a source, or why there is none; no file is written.

    Arguments and errors are those of `classify`. Memory does not grow with the number of images.

    Example:
        >>> for answer in predict_each("runs/boots", "photos"):  # doctest: +SKIP
        ...     print(answer.name, answer.answer)
    """
    stream = open_streams(source, watcher=watcher, **reading)
    classifier = open_classifier(model, device=device, tta=tta, watcher=watcher)
    answers = each_answer(classifier, stream, reject=reject, as_is=as_is, tta=tta, watcher=watcher)
    return (answer for _, answer in answers)


def check_drawing(path: str | os.PathLike[str]) -> Path:
    """Check the path of a figure before any work is done."""
    path = Path(path)
    if path.suffix.lower() not in _DRAWN:
        raise RecipeError(f"{path} does not end in {', '.join(_DRAWN)}")
    check_writable(path)
    return path


@checked
def draw_prediction(
    prediction: Prediction, path: str | os.PathLike[str], image: ImageLike | None = None
) -> Path:
    """Draw an image beside the bars of its probabilities.

    Args:
        prediction: An answer, with the network's pixels.
        path: File to write; its ending decides the format (PNG, SVG, PDF).
        image: The original image, to be shown as well.

    Raises:
        RecipeError: Another ending.
        MissingExtraError: matplotlib is not installed.
        StorageError: The disk refuses the write.
    """
    from opsin.report.figures.run_figures import ShownAnswer, draw_answer  # noqa: PLC0415  needs matplotlib
    from opsin.report.figures.style import save, styled  # noqa: PLC0415

    path = check_drawing(path)
    original = None
    if image is not None:
        upright = open_image(image, prediction.name, side=800)
        original = np.asarray(upright).reshape(upright.height, upright.width, -1)
    refused = prediction.answer if prediction.rejected else ""
    answer = ShownAnswer(
        prediction.pixels, prediction.name, None, prediction.probabilities, refused
    )
    with styled():
        return save(draw_answer(answer, original), path)
