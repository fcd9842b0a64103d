"""A classifier.onnx, ready to classify images."""

from __future__ import annotations

import functools
import os
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from opsin.core.arguments import checked
from opsin.core.errors import ImageError, ModelFileError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import Metadata, Views
from opsin.data.images import ImageLike, PreparedImage, prepare
from opsin.data.lazy_images import Images
from opsin.data.pixel_values import to_bytes
from opsin.hub.hub_name import PREFIX, HubName
from opsin.runtime import model_check
from opsin.runtime.onnx_scan import printable
from opsin.runtime.prediction import Answers, Prediction
from opsin.runtime.providers import CPU, Session, choose

# Sets of layers whose sessions stay open: each holds the network's weights once more.
_LAYER_SESSIONS: Final = 2
# Share of the smaller side that a view is moved by, one pixel at least. Measured on validation
# images (docs/how-to/predict.md): on sides of 28 to 64 pixels one pixel helps, and a
# fourteenth of the side does less or harms.
_SHIFT: Final = 1 / 64
# Below this many pixels a side, one pixel is too much.
_SMALLEST_SHIFTED: Final = 28
# Down and right, in steps. Moves along the diagonals were a little better than straight ones.
_SHIFTS: Final = ((0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


@checked
class Classifier:
    """A classifier.onnx for inference; it never needs PyTorch.

    Args:
        model: A run directory, a ``classifier.onnx``, or ``hf:owner/name[@revision]`` for one on
            the Hugging Face hub, which is fetched where it is not on this machine.
        threads: Threads for the arithmetic (default: as many as the machine has cores).
        device: Where it is computed: ``auto`` (the best that ONNX Runtime can use here), ``cpu``,
            ``cuda``, ``tensorrt``, ``coreml``, ``directml`` or ``openvino``, perhaps with a number:
            ``cuda:1``. Where it fails, the CPU computes.
        watcher: Receives how far a download is, and one line where a device fails.

    Raises:
        RecipeError: There is no such device, or ONNX Runtime's package cannot use it.
        RunError: There is no such run, or it has no classifier yet.
        ModelFileError: The file is damaged or was not written by Opsin, or the hub shows none.
        DownloadError: It could not be fetched.
    """

    #: Repository and commit, where it was fetched from the hub.
    published: HubName | None

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        threads: int | None = None,
        device: str = "auto",
        watcher: Watcher = SILENT,
    ) -> None:
        path, self.published = model_check.find_model(model, watcher=watcher)
        content = model_check.read_classifier(path)
        most = model_check.check_model(content, str(path))
        self._open(path, content, most, threads=threads, device=device, watcher=watcher)

    @classmethod
    def of_content(
        cls,
        path: Path,
        content: bytes,
        *,
        most: int | None,
        threads: int | None = None,
        device: str = CPU,
        watcher: Watcher = SILENT,
    ) -> Classifier:
        """Open a file's content that `opsin.runtime.model_check.check_model` has let in."""
        made = cls.__new__(cls)
        made.published = None
        made._open(path, content, most, threads=threads, device=device, watcher=watcher)
        return made

    def __reduce__(self) -> tuple[object, ...]:
        # With the content: a copy in another process needs no file.
        return _copied, (self.path, self.content, self.threads, self._asked)

    def _open(
        self,
        path: Path,
        content: bytes,
        most: int | None,
        *,
        threads: int | None,
        device: str,
        watcher: Watcher = SILENT,
    ) -> None:
        self.path: Path = path
        self.threads: int | None = threads
        self._asked = device
        #: Bytes of the file, as they were checked: its name may lead to others by now.
        self.content: bytes = content
        #: How many images may be computed at once; ``None``: any number.
        self.most: int | None = most
        self.metadata: Metadata
        opened = functools.partial(
            model_check.open_session,
            name=str(path),
            threads=threads,
            device=device,
            watcher=watcher,
        )
        self._session, self.metadata = opened(content)
        self._outputs = [output.name for output in self._session.opened.get_outputs()]
        # Opening one takes 15 to 300 ms, the layers of an image 3 ms; it needs no lock.
        self._layer_session = functools.lru_cache(_LAYER_SESSIONS)(
            lambda layers: opened(with_outputs(content, layers))[0]
        )

    @property
    def device(self) -> str:
        """Where it computes, such as ``cpu`` or ``cuda:1``."""
        return self._session.device

    @property
    def title(self) -> str:
        """The name that opens this file: its path, or its name on the hub."""
        return str(self.path) if self.published is None else f"{PREFIX}{self.published}"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        return self.metadata.classes

    @property
    def batch_size(self) -> int:
        """How many images are computed at once."""
        return model_check.largest_batch(self.metadata.preparation)

    @property
    def views(self) -> Views | None:
        """The views that ``tta`` averages over, or ``None`` if they did not help."""
        views = self.metadata.views
        return views if views and views.helped else None

    @property
    def without_views(self) -> str:
        """Why ``tta`` has no effect, or ``""``."""
        if self.views:
            return ""
        known, unknown = self.metadata.views, "this file does not say which test-time views suit it"
        return f"{known.words if known else unknown}; not used"

    def __repr__(self) -> str:
        return f"<Classifier {self.title}: {', '.join(self.classes)}>"

    @overload
    def predict(
        self, image: ImageLike, *, as_is: bool = False, tta: bool = False, name: str | None = None
    ) -> Prediction: ...

    @overload
    def predict(
        self, image: list[Any] | tuple[Any, ...], *, as_is: bool = False, tta: bool = False
    ) -> list[Prediction]: ...

    def predict(
        self,
        image: ImageLike | list[Any] | tuple[Any, ...],
        *,
        as_is: bool = False,
        tta: bool = False,
        name: str | None = None,
    ) -> Prediction | list[Prediction]:
        """Classify one image, or a list of them.

        Args:
            image: A file's name, bytes, an open file, a Pillow image or an array ``[H, W]`` or
                ``[H, W, C]``, see `open_image`; or a list of these, for a list of answers.
            as_is: Leave the background as it is, even where the training images' was the
                opposite.
            tta: Test-time augmentation: mean probabilities over a few views of the image, two
                to ten times as slow, if these helped on the validation images of the training;
                else ``notes`` say why not. Its OOD score is its own.
            name: What to call the image (default: its file name).

        Raises:
            ImageError: An image cannot be read, or is none; of a list, the first such.
            RecipeError: A name for a list.

        Example:
            >>> classifier.predict(["boot.png", "bag.png"])  # doctest: +SKIP
            [Prediction(name='boot.png', ...), Prediction(name='bag.png', ...)]
        """
        if is_list := isinstance(image, list | tuple):
            if name is not None:
                raise RecipeError(f"A name is for one image, and this is a list of {len(image)}")
            images = [(item, _called(item, f"image {index}")) for index, item in enumerate(image)]
        else:
            images = [(image, name or _called(image, "image"))]
        answers: list[Prediction] = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            prepared = [self.prepare(item, called, as_is=as_is) for item, called in batch]
            answers += self.predict_prepared(prepared, tta=tta)
        if tta and not self.views:
            note = self.without_views
            answers = [replace(answer, notes=(*answer.notes, note)) for answer in answers]
        return answers if is_list else answers[0]

    def predict_prepared(
        self, prepared: Sequence[PreparedImage], *, tta: bool = False
    ) -> list[Prediction]:
        """Classify images that `prepare` made ready, in one batch; any thread may do so."""
        if not prepared:
            return []
        images = np.stack([image.pixels for image in prepared])
        answers = self.answers(images)
        probabilities, scores = answers.probabilities, answers.ood_score
        if tta and self.views is not None:
            probabilities = self._mean_over_views(images, probabilities, self.views)
        rejected = answers.rejected(self.metadata.reject)
        return [
            Prediction(
                name=image.name,
                label=self.classes[int(shares.argmax())],
                confidence=float(shares.max()),
                probabilities=dict(zip(self.classes, map(float, shares), strict=True)),
                ood_score=None if scores is None else float(scores[row]),
                rejected=None if rejected is None else bool(rejected[row]),
                notes=image.notes,
                pixels=image.pixels,
            )
            for row, (image, shares) in enumerate(zip(prepared, probabilities, strict=True))
        ]

    def _mean_over_views(
        self, images: NDArray[np.uint8], plain: NDArray[np.float32], views: Views
    ) -> NDArray[np.float32]:
        seen = shifted_views(images, flip=views.flip, shift=views.shift)
        next(seen)  # the images as they are
        answers = [self._ask(["probabilities"], view)["probabilities"] for view in seen]
        return np.asarray(np.mean([plain, *answers], axis=0, dtype=np.float64), np.float32)

    def prepare(self, image: ImageLike, name: str, *, as_is: bool = False) -> PreparedImage:
        """Decode an image into the pixels that training would have made of it; in any thread.

        Arguments and errors are those of `predict`.
        """
        return prepare(image, self.metadata.preparation, name, match=not as_is)

    def probabilities(self, images: Images) -> NDArray[np.float32]:
        """Return the probability of each class, ``float32[N, K]``.

        Args:
            images: Prepared images, ``uint8[N, H, W, C]``, such as a dataset's.

        Raises:
            ImageError: They are of another shape or type; the error has the line that mends it.
        """
        parts = [part.probabilities for part in self.iter_answers(images)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.classes)), np.float32)

    def answers(self, images: NDArray[np.uint8], *, embedding: bool = False) -> Answers:
        """Return the answers to prepared images, ``uint8[N, H, W, C]``, computed at once.

        With ``embedding``, what the last layer sees is among them. Errors as in `probabilities`.
        """
        images = self._batch(images)[:]
        wanted = ("probabilities", "ood_score", "embedding" if embedding else "")
        outputs = self._ask([name for name in wanted if name in self._outputs], images)
        return Answers(outputs["probabilities"], outputs.get("ood_score"), outputs.get("embedding"))

    def iter_answers(
        self, images: Images, rows: NDArray[np.int64] | None = None, *, views: Views | None = None
    ) -> Iterator[Answers]:
        """Yield the answers batch by batch, to all prepared images or to some rows, ``int64[M]``.

        ``views`` are variations whose mean probabilities are the answer. Errors as in
        `probabilities`, and `RecipeError` where there are no such rows.
        """
        for batch in self._batches(images, rows):
            answers = self.answers(batch)
            if views is not None:
                mean = self._mean_over_views(batch, answers.probabilities, views)
                answers = replace(answers, probabilities=mean)
            yield answers

    def _batches(
        self, images: Images, rows: NDArray[np.int64] | None
    ) -> Iterator[NDArray[np.uint8]]:
        images = self._batch(images)
        if rows is not None:
            rows = np.asarray(rows)
            is_whole = rows.ndim == 1 and rows.dtype.kind in "iu"
            if not is_whole or (
                rows.size and not -len(images) <= rows.min() <= rows.max() < len(images)
            ):
                raise RecipeError(f"{reprlib.repr(rows)} are no rows below {len(images):,}")
        count = len(images) if rows is None else len(rows)
        for start in range(0, count, self.batch_size):
            places = slice(start, start + self.batch_size)
            yield images[places] if rows is None else images[rows[places]]

    def _ask(
        self, names: Sequence[str], images: NDArray[np.uint8], session: Session | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute outputs in batches no larger than were tried out, and check them."""
        step = self.most or len(images)
        parts = []
        for start in range(0, max(1, len(images)), max(1, step)):
            batch = np.ascontiguousarray(images[start : start + step])
            try:
                values = (session or self._session).run(list(names), {"images": batch})
            except Exception as error:  # whatever ONNX Runtime has against it
                reason = f"ONNX Runtime cannot compute it: {printable(error)}"
                raise model_check.unsound(str(self.path), {}, reason) from error
            parts.append(dict(zip(names, values, strict=True)))
            fault = model_check.fault_of(parts[-1], len(batch), len(self.classes))
            if fault:
                raise model_check.unsound(str(self.path), parts[-1], fault)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _batch(self, images: Images) -> Images:
        """Check prepared images ``uint8[N, H, W, C]``."""
        preparation = self.metadata.preparation
        wanted = preparation.shape
        if not hasattr(images, "__array__"):
            raise ImageError(
                f"A {type(images).__name__} is no array of prepared images",
                "For anything else: classifier.predict(images)",
            )
        if images.dtype == np.uint8 and images.shape[1:] == wanted:
            return images
        array = np.asarray(images)
        if array.ndim == 3 and preparation.channels == 1:
            array = array[..., None]
        if array.shape[1:] == wanted:
            pixels, note = to_bytes(array, "the batch")
            if not note:  # there is no place where it could be said
                return pixels
        shape = ", ".join(map(str, wanted))
        raise ImageError(
            f"{images.dtype}{list(images.shape)} are no prepared images uint8[N, {shape}]",
            "Of one image give images[None], of fractions (255.0 * images).round().astype('uint8')"
            "; anything else prepare first: classifier.prepare(image, 'its name').pixels",
        )

    def layers(self, images: NDArray[np.uint8], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the outputs of layers, by the names of the summary table.

        Args:
            images: Prepared images, ``uint8[N, H, W, C]``.
            names: Names of layers, or of the file's outputs.

        Raises:
            ModelFileError: There is no such layer.
            ImageError: As in `probabilities`; or there are no images.
        """
        parts = list(self.iter_layers(images, names))
        if not parts:
            raise ImageError("There are no images")
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def iter_layers(
        self, images: Images, names: Sequence[str], rows: NDArray[np.int64] | None = None
    ) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield what `layers` returns batch by batch, of all images or of some rows."""
        known = [*(layer.name for layer in self.metadata.layers), *self._outputs]
        unknown = [name for name in names if name not in known]
        if unknown or not len(names):
            raise ModelFileError(
                f"{', '.join(unknown) or 'No name'} is no layer",
                f"The layers are {', '.join(known)}.",
            )
        further = tuple(name for name in names if name not in self._outputs)
        session = self._layer_session(further) if further else self._session
        for batch in self._batches(images, rows):
            yield self._ask(names, batch, session)


def _copied(path: Path, content: bytes, threads: int | None, device: str) -> Classifier:
    # The other machine may have another ONNX Runtime.
    device, most = choose(device, needed=False), model_check.check_model(content, str(path))
    return Classifier.of_content(path, content, most=most, threads=threads, device=device)


def _called(image: object, otherwise: str) -> str:
    return str(image) if isinstance(image, str | os.PathLike) else otherwise


def with_outputs(content: bytes, names: Sequence[str]) -> bytes:
    """Return an ONNX file that puts out further values."""

    def part(number: int, content: bytes) -> bytes:
        size, length = bytearray(), len(content)
        while length > 127:
            size.append(length & 127 | 128)
            length >>= 7
        return bytes([number << 3 | 2, *size, length]) + content

    value_info_name, graph_output, model_graph = 1, 12, 7
    graph = b"".join(part(graph_output, part(value_info_name, n.encode())) for n in names)
    return content + part(model_graph, graph)


def step_of(height: int, width: int, shift: int) -> int:
    """Return the shift of a view in pixels, possibly 0."""
    side = min(height, width)
    return min(shift, max(1, round(_SHIFT * side))) if side >= _SMALLEST_SHIFTED else 0


def shifted_views(
    images: NDArray[np.uint8], *, flip: bool, shift: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield images as they are, then moved a little four ways, then all of that mirrored."""
    height, width = images.shape[1:3]
    step = step_of(height, width, shift)
    for seen in (images, images[:, :, ::-1]) if flip else (images,):
        for down, right in _SHIFTS if step else _SHIFTS[:1]:
            if not (down or right):
                yield seen
                continue
            rows = np.clip(np.arange(height) - step * down, 0, height - 1)
            columns = np.clip(np.arange(width) - step * right, 0, width - 1)
            yield seen[:, rows[:, None], columns]
