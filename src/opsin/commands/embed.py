"""The verb `embed`: features of images by a pretrained network."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin._version import __version__
from opsin.commands.feature_file import FeatureRows
from opsin.commands.out_file import OutFile, ShardTask
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
from opsin.data.fill_cache import content_and_digest
from opsin.data.formats import SUFFIXES
from opsin.data.image_stream import ListedImage, Stream, held_bytes
from opsin.data.images import read_image
from opsin.data.lazy_images import THREADS
from opsin.data.read_ahead import read_ahead
from opsin.data.shard import Shard, ShardInputs
from opsin.data.sources.contents import LabelledImages
from opsin.runtime.cluster import Cluster, is_elsewhere
from opsin.runtime.image_engine import Done, ImageSteps, answer_images
from opsin.runtime.providers import choose
from opsin.stores.store_address import StoreAddress

try:
    from opsin.backbones.backbone import Backbone, open_backbone
    from opsin.backbones.feature_graph import usual_preparation
    from opsin.backbones.features import BATCH, KEPT, Extractor
except ImportError as error:
    raise MissingExtraError("pretrained networks", "evaluate") from error

# Seconds between saves for a slow network.
_OFTEN: Final = 30.0


@dataclass(frozen=True)
class Embedded:
    """The result of `embed`.

    Args:
        out: The file.
        images: Images in it.
        units: Features per image, D.
        computed: Images whose features were computed now; the others were cached.
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
            "unreadable": _as_json(self.unreadable),
            "backbone": self.backbone.model_dump(mode="json"),
            "preparation": _preparation(self.preparation),
        }


def _as_json(unreadable: Sequence[tuple[str, str]]) -> list[JsonObject]:
    return [{"name": name, "reason": reason} for name, reason in unreadable]


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

    They are those that ``train(data, backbone=…)`` learns from, each image seen whole, and are
    computed once for both. Stopped or killed, the same call resumes. Memory does not grow with the
    number of images, but for 32 bytes per cached one.

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
            ``photos-00002-of-00003.npz``, for `merge`.
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

    def open_target(out: str | os.PathLike[str]) -> OutFile:
        target = OutFile.read(out, part)
        with target.errors():
            # A shard without its manifest is unfinished, as is a file for a store without its
            # object.
            replace = part is not None or target.address is not None
            check_new_file(target.path, ".npz", replace=replace)
            target.claim()
        return target

    target = None if out is None else open_target(out)
    network = open_backbone(
        backbone, prepare=prepare, at=None if at is None else tuple(at), offline=offline,
        watcher=watcher,
    )  # fmt: skip
    images = _find_images(
        data, test=None if test is None else os.fspath(test), classes=classes, columns=columns,
        follow_links=follow_links, outside=outside, stdin=stdin, shard=part, watcher=watcher,
    )  # fmt: skip
    target = target or open_target(legal_name(f"{images.title}-{network.name}.npz"))
    watcher.fact("Network", network.words)
    # All values are computed, since a training may use them; only the first is written.
    taken = network.at if at is not None else network.at[:1]
    with target.errors():
        return _Work(images, _Embedder(network, device, watcher), taken, watcher).run(
            target, on, began
        )


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


class _Pixels(NamedTuple):
    """A decoded image with its digest."""

    digest: NDArray[np.uint8]
    pixels: NDArray[np.uint8]


class _Features(NamedTuple):
    """The features of an image; new ones were computed now and must be cached."""

    digest: bytes
    features: NDArray[np.float32]
    new: bool = False


class _Embedder:
    """Computes features, here or in another process."""

    def __init__(self, network: Backbone, device: str, watcher: Watcher = SILENT) -> None:
        self.network, self.device = network, device
        self.like = usual_preparation(network)
        shape = (self.like.height, self.like.width, self.like.channels)
        #: Computes features of pixels, with their cache.
        self.extractor = Extractor(network, shape, "whole", device, watcher)

    def __reduce__(self) -> tuple[object, ...]:
        # Another process opens the network itself.
        return _Embedder, (self.network, self.device)

    def steps(self) -> ImageSteps[ListedImage, _Pixels, _Features]:
        """Return the steps for each image."""
        pixels = self.like.height * self.like.width * self.like.channels
        return ImageSteps(
            prepare=self.prepare,
            compute=self.compute,
            cost=lambda item: pixels + held_bytes(item),
            batch=BATCH,
            together=THREADS,
        )

    def prepare(self, item: ListedImage) -> _Pixels | Done[_Features]:
        """Decode an image; raise `ImageError` if it cannot be read."""
        if item.problem:
            raise item.problem
        content, _ = content_and_digest(item.image, item.name)
        pixels = read_image(content, self.like, item.name)
        (digest,) = digest_rows(pixels[None])
        known = self.extractor.cache.find(digest.tobytes())
        if known is not None:
            return Done(_Features(digest.tobytes(), known))
        return _Pixels(digest, pixels)

    def compute(self, batch: list[_Pixels]) -> list[_Features]:
        """Return the features of a batch."""
        features = self.extractor.rows_of(np.stack([image.pixels for image in batch]))
        return [
            _Features(image.digest.tobytes(), row, new=True)
            for image, row in zip(batch, features, strict=True)
        ]


class _Work:
    """One call of `embed`: writes rows in order, and caches new features."""

    def __init__(
        self, images: _Images, embedder: _Embedder, taken: tuple[str, ...], watcher: Watcher
    ) -> None:
        self._images, self._embedder, self._watcher = images, embedder, watcher
        network = embedder.network
        self._facts = network.facts(taken)
        self._widths = [network.value(name).units for name in taken]
        self._units = sum(self._widths)
        self._unkept: list[_Features] = []
        self._kept_count, self._refusal_noted = 0, False
        self._computed = 0
        self._unreadable: list[tuple[str, str]] = []

    def run(self, target: OutFile, on: str, began: float) -> Embedded:
        """Embed the images, and write the file."""
        images, embedder = self._images, self._embedder
        made: JsonObject = {
            "backbone": self._facts.model_dump(mode="json"),
            "units": self._widths,
            "view": "whole",
            "preparation": _preparation(embedder.like),
        }
        before = task = None
        if images.stream.inputs is not None:
            options = made | {"classes": images.classes}
            task = ShardTask("embed", images.stream.inputs, options, target.path)
            before = task.finished()
        if before is not None:
            count = before.rows
            self._unreadable = [
                (file["name"], file["reason"]) for file in before.summary["unreadable"]
            ]
            self._watcher.note(f"{target.path} is finished")
        else:
            there, source = target.claim(), images.stream.source
            with FeatureRows(target.path, self._units) as rows:
                self._fill(rows, on)
                count = rows.count
                listed: JsonObject = {"unreadable": _as_json(self._unreadable)}
                origin: JsonObject = {"opsin": __version__, "source": source}
                rows.finish(origin | made | listed, images.classes)
            if task is not None:
                task.finish(count, {"source": source, **listed})
            target.publish(there)
        return Embedded(
            out=target.shown, images=count, units=self._units, computed=self._computed,
            unreadable=tuple(self._unreadable), classes=images.classes, backbone=self._facts,
            preparation=embedder.like, device=choose(embedder.device),
            seconds=time.monotonic() - began,
        )  # fmt: skip

    def _fill(self, rows: FeatureRows, on: str) -> None:
        """Write a row for each readable image."""
        progress = Progress("Embed", self._images.stream.count(), self._watcher)
        kept = time.monotonic()
        try:
            with closing(self._answers(on)) as answers:
                for item, answer in answers:
                    self._take(item, answer, rows, progress)
                    if len(self._unkept) >= KEPT or time.monotonic() - kept > _OFTEN:
                        self._keep()
                        kept = time.monotonic()
        except KeyboardInterrupt:
            self._keep()
            self._watcher.note(
                f"stopped: the features of {counted(self._kept_count, 'image')} were computed and "
                "kept; the same command goes on from there"
            )
            raise
        finally:
            self._keep()
            self._watcher.end()
        progress.note_unreadable()
        if not rows.count and self._images.stream.inputs is None:
            message = f"{self._images.stream.source} holds no images"
            if self._unreadable:
                name, reason = self._unreadable[0]
                message = f"None of {len(self._unreadable):,} images can be read ({name}: {reason})"
            raise SourceError(message)

    def _answers(self, on: str) -> Generator[tuple[ListedImage, _Features | ImageError]]:
        """Yield each image with its features, computed here or by a cluster."""
        stream, steps = self._images.stream, self._embedder.steps()
        if not is_elsewhere(on):
            yield from answer_images(steps, read_ahead(stream), end_wait=stream.close)
            return
        with Cluster(on, stream.sample()) as cluster:
            yield from cluster.answers(steps, stream)

    def _take(
        self, item: ListedImage, answer: _Features | ImageError, rows: FeatureRows,
        progress: Progress,
    ) -> None:  # fmt: skip
        """Add an image's row, or note why there is none."""
        if isinstance(answer, ImageError):
            reason = reason_of(item.name, answer)
            self._unreadable.append((item.name, reason))
            progress.add_unreadable(item.name, reason)
        else:
            features = answer.features[: self._units]
            rows.add(item.name, item.label, item.part, answer.digest, features)
            if answer.new:
                self._computed += 1
                self._unkept.append(answer)
        progress.advance(rows.count + len(self._unreadable))

    def _keep(self) -> None:
        """Write new features to the cache."""
        cache, computed = self._embedder.extractor.cache, self._unkept
        self._unkept = []
        if not computed:
            return
        cache.keep(
            np.stack([np.frombuffer(image.digest, np.uint8) for image in computed]),
            np.stack([image.features for image in computed]),
        )
        if cache.refused is None:
            self._kept_count += len(computed)
        elif not self._refusal_noted:
            self._refusal_noted = True
            self._watcher.note(
                f"features cannot be kept in the cache ({cache.refused}): stopped, the same "
                "command would begin anew"
            )
