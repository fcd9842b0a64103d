"""The verb `embed`: features of images by a pretrained network."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin.commands.predict.answers_file import Answer, AnswersFile, damaged
from opsin.commands.predict.out_file import OutFile, feature_row, shard_facts, write_features
from opsin.commands.predict.rows import reason_of
from opsin.commands.predict.stream import Progress, open_streams
from opsin.core.arguments import checked
from opsin.core.errors import ImageError, MissingExtraError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import legal_name
from opsin.core.format import counted
from opsin.core.metadata import BackboneFacts, Preparation
from opsin.core.recipe import DataRecipe
from opsin.core.storage import check_new_file
from opsin.core.stored_json import JsonObject
from opsin.data import sources
from opsin.data.cache import digest_rows
from opsin.data.dataset import Dataset, resolve_sources
from opsin.data.formats import SUFFIXES
from opsin.data.image_stream import ListedImage, Stream, held_bytes
from opsin.data.images import read_image
from opsin.data.lazy_images import THREADS
from opsin.data.read_ahead import read_ahead
from opsin.data.shard import Shard, ShardInputs
from opsin.data.sources.contents import LabelledImages
from opsin.runtime.cluster import Cluster, is_elsewhere
from opsin.runtime.image_engine import ImageSteps, answer_images
from opsin.runtime.providers import choose
from opsin.stores.store_address import StoreAddress

try:
    from opsin.backbones.backbone import Backbone, open_backbone
    from opsin.backbones.feature_graph import usual_preparation
    from opsin.backbones.features import BATCH, Extractor
except ImportError as error:
    raise MissingExtraError("pretrained networks", "evaluate") from error

# Features are kept at least this often: images, and seconds.
_BATCH: Final = 256
_OFTEN: Final = 10.0


@dataclass(frozen=True)
class Embedded:
    """The result of `embed`.

    Args:
        out: The file.
        images: Images in it.
        units: Features per image, D.
        computed: Images whose features were computed now; the others were kept before.
        unreadable: Name and reason of each file that was skipped.
        classes: Class names of the labels, or ``None`` without labels.
        backbone: The network.
        preparation: The preparation of images for it.
        device: The device that computed features.
        seconds: Duration.
    """

    out: Path | StoreAddress
    images: int
    units: int
    computed: int
    unreadable: tuple[tuple[str, str], ...]
    classes: tuple[str, ...] | None
    backbone: BackboneFacts
    preparation: Preparation
    device: str
    seconds: float

    def to_json(self) -> JsonObject:
        """Return everything as ``--json`` prints it."""
        return vars(self) | {
            "out": str(self.out),
            "unreadable": [{"name": name, "reason": reason} for name, reason in self.unreadable],
            "backbone": self.backbone.model_dump(mode="json"),
            "preparation": _preparation(self.preparation),
        }


def _preparation(preparation: Preparation) -> JsonObject:
    return preparation.model_dump(mode="json", exclude={"background"}, exclude_none=True)


@checked
def embed(
    data: object,
    *,
    backbone: str | os.PathLike[str] | None = None,
    prepare: str | None = None,
    at: Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    follow_links: bool = False,
    outside: bool = False,
    stdin: BinaryIO | None = None,
    offline: bool = False,
    shard: str | None = None,
    on: str = "local",
    device: str = "auto",
    watcher: Watcher = SILENT,
) -> Embedded:
    """Write a pretrained network's features of images, one row each.

    They are those that ``train(data, backbone=…)`` learns from, each image seen whole. Stopped or
    killed, the same call resumes. Memory grows by 8 bytes for each image.

    Args:
        data: Images with labels, as `train` takes them, or without, as `classify` takes them.
        backbone: An ONNX file, a run, or its ``classifier.onnx``; else a name on the hub.
        prepare: The pixel values that the network was trained on, if they are not stated.
        at: Values of the network to take (default: that before its last dense layer).
        out: A new ``.npz`` file (default: ``SOURCE-NETWORK.npz``). On an object store
            (``s3://…``) it appears whole, at the end.
        test: A second source, of test images.
        classes: Classes to keep, in this order.
        columns: Names of a table's columns, if not the usual ones.
        follow_links: Enter folders through symbolic links.
        outside: Let a table name images outside its folder.
        stdin: What ``-`` reads.
        offline: Use only a network that is on this machine.
        shard: ``2/3``: only the second of three equal parts of the source, into
            ``photos-00002-of-00003.npz.sqlite``, from which `merge` makes the file.
        on: ``local``, or a Ray cluster: ``ray`` or ``ray://HOST:PORT``; the features are the same.
        device: Device of each machine: see `opsin.Classifier`.
        watcher: Receives progress and notes.

    Raises:
        RecipeError: There is no network, its pixel values are unknown, or an impossible option.
        ModelFileError: The network cannot be used.
        DownloadError: It cannot be fetched.
        SourceError: The source is missing or damaged, or holds no image that can be read.
        StorageError: The file is there already, or the disk refuses the write.

    Example:
        >>> done = embed("photos", backbone="mobilenet.onnx", prepare="-1..1")  # doctest: +SKIP
        >>> np.load(done.out)["features"].shape                                 # doctest: +SKIP
        (2527, 1280)
    """
    began = time.monotonic()
    if backbone is None:
        raise RecipeError("A pretrained network is needed", "Name one: --from FILE.")
    device = choose(device)
    part = None if shard is None else Shard.parse(shard)
    target = None if out is None else _open_target(out, part)
    network = open_backbone(
        backbone, prepare=prepare, at=None if at is None else tuple(at), offline=offline,
        watcher=watcher,
    )  # fmt: skip
    images = _find_images(
        data, test=None if test is None else os.fspath(test), classes=classes, columns=columns,
        follow_links=follow_links, outside=outside, stdin=stdin, shard=part, watcher=watcher,
    )  # fmt: skip
    target = target or _open_target(legal_name(f"{images.title}-{network.name}.npz"), part)
    watcher.fact("Network", network.words)
    embedder = _Embedder(network, device, watcher)
    # All values are computed, as in training; only the first is written.
    taken = network.at if at is not None else network.at[:1]
    facts = network.facts(taken)
    widths = [network.value(name).units for name in taken]
    begun: JsonObject = {
        "backbone": facts.model_dump(mode="json"), "units": widths, "view": "whole",
        "preparation": _preparation(embedder.like),
        "classes": None if images.classes is None else list(images.classes),
        **shard_facts(images.stream.inputs),
    }  # fmt: skip
    with target.errors():
        there = target.claim()
        source = images.stream.source
        with AnswersFile(target.database, target.path, begun, kinds=2, source=source) as answers:
            work = _Work(images.stream, answers, sum(widths), watcher)
            work.run(embedder, on)
            answers.finish(partial(write_features, about=answers.about))
            answers.close()
            target.publish(there)
            if not answers.is_shard:
                answers.remove()
    return Embedded(
        out=target.shown, images=work.count, units=sum(widths), computed=work.computed,
        unreadable=tuple(work.unreadable), classes=images.classes, backbone=facts,
        preparation=embedder.like, device=choose(device), seconds=time.monotonic() - began,
    )  # fmt: skip


def _open_target(out: str | os.PathLike[str], shard: Shard | None) -> OutFile:
    """Check that the file can be written, before long work."""
    target = OutFile.read(out, shard)
    with target.errors():
        is_begun = target.address is not None or os.path.lexists(target.database)
        path = target.path if shard is None else Path(out)
        check_new_file(path, ".npz", replace=shard is not None or is_begun)
        target.claim()
    return target


class _Images(NamedTuple):
    """Images with labels or without."""

    stream: Stream
    title: str
    classes: tuple[str, ...] | None = None


def _find_images(
    data: object, *, test: str | None, classes: Sequence[str] | None,
    columns: Mapping[str, str] | None, follow_links: bool, outside: bool, stdin: BinaryIO | None,
    shard: Shard | None, watcher: Watcher,
) -> _Images:  # fmt: skip
    """Open a source: its labelled images if it has any, else all."""
    data = list(data) if isinstance(data, list | tuple) else [data]
    if not data:
        raise SourceError("There is no source")
    options = {
        "test": test,
        "classes": None if classes is None else tuple(classes),
        "columns": None if columns is None else dict(columns),
        "follow_links": follow_links,
        "outside": outside,
    }
    if any(isinstance(part, Dataset) for part in data):
        raise SourceError("An opsin.Dataset is not embedded", "Give the source that it is from.")
    recipe, held = resolve_sources(data, options, watcher)
    names = list(recipe.sources)
    why: SourceError | None = None
    if held is not None or not all(map(_is_one_image, names)):
        try:
            contents = (held or sources.find_all(recipe, watcher=watcher)).open()
            return _labelled(contents, recipe, shard)
        except SourceError as error:
            if held is not None or test is not None or classes is not None:
                raise
            why = error
    try:
        stream = open_streams(
            names, columns=columns, follow_links=follow_links, outside=outside, stdin=stdin,
            shard=shard, once=False, watcher=watcher,
        )  # fmt: skip
    except SourceError as error:
        raise why or error from None
    if why is not None:
        watcher.note(f"taken as images without labels: {why.message}")
    title = "images" if recipe.sources == (sources.STANDARD_INPUT,) else recipe.title
    return _Images(replace(stream, source=recipe.source), title)


def _is_one_image(source: str) -> bool:
    """Whether a source never has labels: an image file, or standard input."""
    named = os.path.splitext(source)[1].lower() in SUFFIXES  # noqa: PTH122  any text
    return source == sources.STANDARD_INPUT or (named and not os.path.isdir(source))  # noqa: PTH112


def _labelled(contents: LabelledImages, recipe: DataRecipe, shard: Shard | None) -> _Images:
    if recipe.classes:
        contents = contents.keep(recipe.classes)
    if not len(contents):
        raise SourceError(f"{recipe.source} holds no images")

    def at(row: int) -> ListedImage:
        label, part = int(contents.labels[row]), int(contents.given[row])
        return replace(ListedImage.at(row, contents.names, contents.images), label=label, part=part)

    inputs, rows = None, range(len(contents))
    if shard is not None:
        facts = zip(contents.names, contents.labels, contents.given, strict=True)
        inputs = ShardInputs.of(shard, ("\0".join(map(str, image)) for image in facts))
        rows = inputs.rows
    stream = Stream(recipe.source, "rows", lambda: map(at, rows), lambda: len(rows), inputs=inputs)
    return _Images(stream, recipe.title, tuple(contents.classes))


class _Features(NamedTuple):
    """The features of an image, and the SHA-256 of its pixels."""

    digest: bytes
    features: NDArray[np.float32]


class _Embedder:
    """Computes features, here or in another process."""

    def __init__(self, network: Backbone, device: str, watcher: Watcher = SILENT) -> None:
        self.network, self.device = network, device
        self.like = usual_preparation(network)
        self._shape = (self.like.height, self.like.width, self.like.channels)
        self._extractor = Extractor(network, self._shape, "whole", device, watcher)

    def __reduce__(self) -> tuple[object, ...]:
        # Another process opens the network itself.
        return _Embedder, (self.network, self.device)

    def steps(self) -> ImageSteps[ListedImage, NDArray[np.uint8], _Features]:
        """Return the steps for each image."""
        pixels = int(np.prod(self._shape))
        return ImageSteps(
            prepare=self.prepare,
            compute=self.compute,
            cost=lambda item: pixels + held_bytes(item),
            batch=BATCH,
            together=THREADS,
        )

    def prepare(self, item: ListedImage) -> NDArray[np.uint8]:
        """Decode an image; raise `ImageError` if it cannot be read."""
        if item.problem:
            raise item.problem
        return read_image(item.image, self.like, item.name)

    def compute(self, batch: list[NDArray[np.uint8]]) -> list[_Features]:
        """Return the features of a batch."""
        images = np.stack(batch)
        digests = (digest.tobytes() for digest in digest_rows(images))
        return list(map(_Features, digests, self._extractor.rows_of(images)))


class _Work:
    """Computes a row for each image, and keeps rows in batches."""

    def __init__(self, stream: Stream, answers: AnswersFile, units: int, watcher: Watcher) -> None:
        self._stream, self._answers, self._watcher = stream, answers, watcher
        self._kind = feature_row(units)
        self._batch: list[Answer] = []
        #: Images with features, and those of them that were computed now.
        self.count = self.computed = 0
        self.unreadable: list[tuple[str, str]] = []

    def run(self, embedder: _Embedder, on: str) -> None:
        """Compute the remaining rows."""
        done = self._resume()
        if done:
            self._watcher.fact(
                "Resumed", f"{counted(done, 'image was', 'images were')} done before"
            )
        progress = Progress("Embed", self._stream.count(), self._watcher)
        kept = time.monotonic()
        try:
            with closing(self._remaining(embedder.steps(), on, done)) as answers:
                for item, answer in answers:
                    self._take(item, answer, progress)
                    if len(self._batch) >= _BATCH or time.monotonic() - kept > _OFTEN:
                        self._keep()
                        kept = time.monotonic()
        except KeyboardInterrupt:
            self._keep()
            done = self.count + len(self.unreadable)
            self._watcher.note(
                f"stopped: {counted(done, 'image is', 'images are')} done and kept; the same "
                "command goes on from there"
            )
            raise
        finally:
            self._keep()
            self._watcher.end()
        progress.note_unreadable()
        if not self.count and not self._answers.is_shard:
            self._answers.remove()
            message = f"{self._stream.source} holds no images"
            if self.unreadable:
                name, reason = self.unreadable[0]
                message = f"None of {len(self.unreadable):,} images can be read ({name}: {reason})"
            raise SourceError(message)

    def _resume(self) -> int:
        """Return how many of the first images are done; none if they are others by now."""
        # What a pipe held cannot be compared.
        images = iter(()) if self._stream.passing else iter(self._stream)
        try:
            with closing(self._answers.rows()) as rows:
                is_same = all(self._is_row_of(row, next(images, None)) for row in rows)
        except ValueError as error:
            raise damaged(self._answers.path) from error
        if not is_same:
            self.count, self.unreadable = 0, []
            with self._answers.transaction() as db:
                db.execute("DELETE FROM answers")
        return self.count + len(self.unreadable)

    def _is_row_of(self, row: Answer, image: ListedImage | None) -> bool:
        if image is None or row.image != image.name:
            return False
        if row.answer:
            self.unreadable.append((row.image, (row.line or b"").decode()))
            return True
        (kept,) = np.frombuffer(row.line or b"", self._kind)
        self.count += 1
        return bool((kept["label"], kept["part"]) == (image.label, image.part))

    def _remaining(
        self, steps: ImageSteps[ListedImage, NDArray[np.uint8], _Features], on: str, done: int
    ) -> Generator[tuple[ListedImage, _Features | ImageError]]:
        """Yield each further image with its features, computed here or by a cluster."""

        def each() -> Iterator[ListedImage]:
            return islice(self._stream, done, None)

        if not is_elsewhere(on):
            yield from answer_images(steps, read_ahead(each()), end_wait=self._stream.close)
            return
        with Cluster(on, self._stream.sample()) as cluster:
            yield from cluster.answers(steps, each())

    def _take(self, item: ListedImage, answer: _Features | ImageError, progress: Progress) -> None:
        """Add an image's row, or note why there is none."""
        if isinstance(answer, ImageError):
            reason = reason_of(item.name, answer)
            self.unreadable.append((item.name, reason))
            progress.add_unreadable(item.name, reason)
            line = reason.encode("utf-8", "backslashreplace")
        else:
            row = np.zeros((), self._kind)
            row["label"], row["part"] = item.label, item.part
            row["digest"] = np.frombuffer(answer.digest, np.uint8)
            row["features"] = answer.features[: row["features"].shape[0]]
            line = row.tobytes()
            self.count, self.computed = self.count + 1, self.computed + 1
        self._batch.append(Answer(item.name, int(isinstance(answer, ImageError)), line))
        progress.advance(self.count + len(self.unreadable))

    def _keep(self) -> None:
        batch, self._batch = self._batch, []  # what cannot be kept is never tried again here
        if batch:
            self._answers.append(batch)
