"""Images of a stream, classified."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

from opsin.core.errors import ImageError
from opsin.data.image_stream import Stream, Unlabelled
from opsin.data.lazy_images import THREADS
from opsin.data.read_ahead import read_ahead
from opsin.runtime.classifier import Classifier
from opsin.runtime.cluster import Cluster, Unseen, unseen_or
from opsin.runtime.image_engine import ImageSteps, answer_images
from opsin.runtime.prediction import Prediction, Prepared
from opsin.runtime.providers import CPU

Answered = tuple[Unlabelled, Prediction | ImageError]


def classify_stream(
    classifier: Classifier,
    stream: Iterable[Unlabelled],
    *,
    as_is: bool = False,
    tta: bool = False,
) -> Generator[Answered]:
    """Yield each image of a stream with its answer, or the reason why there is none.

    The answers are those of `Classifier.predict`, in the stream's order. Threads list, decode and
    compute ahead of the caller, by a few batches and no more, so that the memory is
    the same for ten images and ten million. They end when the iterator is closed.

    It is quickest with a classifier that was opened with ``threads=1``: then each core computes
    batches of its own or decodes, whatever is wanted more, and cores never wait for each other.
    With one thread the answers are the same, bit by bit, whatever the batches.

    Args:
        classifier: An open classifier.
        stream: The images, such as `opsin.data.sources.open_stream` finds.
        as_is: Leave backgrounds as they are.
        tta: Test-time augmentation, as in `Classifier.predict`.

    Raises:
        SourceError: The source turned out to be damaged; the answers before that were yielded.

    Example:
        >>> import numpy as np
        >>> from opsin.runtime.classifier import Classifier
        >>> classifier = Classifier("runs/mine", threads=1)      # doctest: +SKIP
        >>> for image, answer in classify_stream(classifier, open_stream("photos")):
        ...     print(image.name, answer)                      # doctest: +SKIP
    """
    like = classifier.metadata.preparation
    pixels = like.height * like.width * like.channels

    def prepare(item: Unlabelled) -> Prepared:
        if item.problem:
            raise item.problem
        return classifier.prepare(item.image, item.name, as_is=as_is)

    def cost(item: Unlabelled) -> int:
        return pixels + (len(item.image) if isinstance(item.image, bytes) else 0)

    # Batches that are computed at the same time take the memory of one together.
    together = max(1, THREADS // (classifier.threads or THREADS)) if classifier.device == CPU else 1
    steps = ImageSteps(
        prepare=prepare,
        compute=lambda batch: classifier.predict_prepared(batch, tta=tta),
        cost=cost,
        batch=max(8, classifier.batch_size // together),
        together=together,
    )
    end_wait = stream.close if isinstance(stream, Stream) else lambda: None
    return answer_images(steps, read_ahead(stream), end_wait=end_wait)


def classify_on(
    cluster: Cluster,
    classifier: Classifier,
    stream: Stream,
    *,
    count: int | None,
    as_is: bool,
    tta: bool,
) -> Generator[Answered]:
    """Yield each image of a stream with its answer, computed by the machines of a cluster.

    The answers are those of `classify_stream`, bit for bit, without the images' pixels.

    Args:
        cluster: The machines.
        classifier: An open classifier, with ``threads=1``.
        stream: The images; each machine reads those in files itself.
        count: How many there are, where that is known.
        as_is: Leave backgrounds as they are.
        tta: Test-time augmentation, as in `Classifier.predict`.

    Raises:
        SourceError: The source turned out to be damaged, or a machine does not see an image.
    """
    return cluster.answers(
        _BlockAnswerer(classifier, as_is, tta),
        stream,
        cost=lambda item: len(item.image) if isinstance(item.image, bytes) else 0,
        count=count,
    )


@dataclass(frozen=True, eq=False)
class _BlockAnswerer:
    """Answers blocks of images in another process, one after the other."""

    classifier: Classifier
    as_is: bool
    tta: bool

    def __call__(self, items: list[Unlabelled]) -> list[Prediction | ImageError | Unseen]:
        answers: list[Prediction | ImageError | Unseen | None] = [None] * len(items)
        ready: list[tuple[int, Prepared]] = []

        def compute() -> None:
            found = self.classifier.predict_prepared([one for _, one in ready], tta=self.tta)
            for (place, _), answer in zip(ready, found, strict=True):
                answers[place] = answer.without_pixels()
            ready.clear()

        for place, item in enumerate(read_ahead(items)):
            try:
                ready.append((place, self._prepare(item)))
            except ImageError as error:
                answers[place] = unseen_or(error, item.path)
            if len(ready) >= max(8, self.classifier.batch_size):
                compute()
        compute()
        return [answer for answer in answers if answer is not None]

    def _prepare(self, item: Unlabelled) -> Prepared:
        if item.problem:
            raise item.problem
        return self.classifier.prepare(item.image, item.name, as_is=self.as_is)
