"""Images of a stream, classified."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from opsin.core.errors import ImageError
from opsin.data.image_stream import Stream, Unlabelled
from opsin.data.lazy_images import THREADS
from opsin.runtime.classifier import Classifier, Prediction, Prepared
from opsin.runtime.image_engine import ImageSteps, answer_images

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
    together = max(1, THREADS // (classifier.threads or THREADS))
    steps = ImageSteps(
        prepare=prepare,
        compute=lambda batch: classifier.predict_prepared(batch, tta=tta),
        cost=cost,
        batch=max(8, classifier.batch_size // together),
        together=together,
    )
    end_wait = stream.close if isinstance(stream, Stream) else lambda: None
    return answer_images(steps, stream, end_wait=end_wait)
