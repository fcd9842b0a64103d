"""The verb `embed`: images become what a pretrained network says of them."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin._version import __version__
from opsin.commands.feature_file import FeatureRow, FeatureRows, check_feature_file
from opsin.commands.images_to_embed import ImagesToEmbed, find_images
from opsin.commands.out_file import OutFile
from opsin.commands.predict.rows import reason_of
from opsin.commands.shards import ShardTask
from opsin.core.arguments import checked
from opsin.core.errors import ImageError, RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.file_names import legal_name
from opsin.core.format import counted
from opsin.core.metadata import BackboneFacts, Preparation
from opsin.core.stored_json import JsonObject
from opsin.data.cache import digest_rows
from opsin.data.fill_cache import content_and_digest
from opsin.data.image_stream import ListedImage
from opsin.data.images import read_image
from opsin.data.lazy_images import THREADS
from opsin.data.read_ahead import read_ahead
from opsin.data.shard import Shard
from opsin.runtime.cluster import Cluster, Unseen, is_elsewhere, unseen_or
from opsin.runtime.image_engine import Done, ImageSteps, answer_images
from opsin.runtime.providers import choose
from opsin.stores.store_address import StoreAddress

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone
    from opsin.data.dataset import Dataset

# Seconds of work that a killed process may lose, where the network is slow.
_OFTEN: Final = 30.0
# Seconds between two lines where the number of images is unknown.
_SILENCE: Final = 10.0
# Unreadable files that are named while the work goes on.
_NAMED: Final = 3


@dataclass(frozen=True)
class Embedded:
    """What `embed` wrote.

    Args:
        out: The file.
        images: Images in it.
        units: Numbers of each, D.
        computed: Images whose features were computed now; the others' were known.
        unreadable: Name and reason of each file that was passed over.
        classes: What labels stand for; ``None`` where the source has none.
        backbone: The network.
        preparation: How images become its pixels.
        device: Where features are computed.
        seconds: How long it took.
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
            "classes": None if self.classes is None else list(self.classes),
            "backbone": self.backbone.model_dump(mode="json"),
            "preparation": _preparation(self.preparation),
        }


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
    """Write what a pretrained network says of images: a row of numbers for each.

    They are those that ``train(data, backbone=…)`` learns from, each image seen whole, and are
    computed once for both. Stopped or killed, the same call goes on where it was. Memory is the
    same for a thousand images and a million, but for 32 bytes an image that is known.

    Args:
        data: Images with labels, as `train` takes them, or without, as `classify` takes them.
        backbone: An ONNX file, a run, or its ``classifier.onnx``; else a name on the hub.
        prepare: The pixels that the network was trained on, where nothing beside it says them.
        at: Values of the network to take (default: that before its last dense layer).
        out: ``.npz`` or ``.parquet``, a new file (default: ``SOURCE-NETWORK.npz``). On an object
            store (``s3://…``) it appears whole, at the end.
        test: A second source, of test images.
        classes: Classes to keep, in this order.
        columns: Names of a table's columns, where they are others.
        follow_links: Enter folders through symbolic links.
        outside: Let a table name images outside its folder.
        stdin: What ``-`` reads.
        offline: Whether only a network that is on this machine may be used.
        shard: ``2/3``: only the second of three equal parts of the source, into
            ``photos-00002-of-00003.npz``, for `merge`.
        on: Where features are computed: ``local``, or on a Ray cluster, ``ray`` or
            ``ray://HOST:PORT``; they are the same.
        device: Where each machine computes: see `opsin.Classifier`.
        watcher: Receives progress and notes.

    Raises:
        RecipeError: There is no network, nothing says its pixels, or an impossible option.
        ModelFileError: The network cannot be used.
        DownloadError: It cannot be fetched.
        SourceError: The source is missing or damaged, or holds no image that can be read.
        MissingExtraError: Parquet without pyarrow.
        StorageError: The file is there already, or the disk refuses the write.

    Example:
        >>> done = embed("photos", backbone="mobilenet.onnx", prepare="-1..1")  # doctest: +SKIP
        >>> np.load(done.out)["features"].shape                                 # doctest: +SKIP
        (2527, 1280)
    """
    from opsin.backbones.backbone import open_backbone  # noqa: PLC0415  loads onnx

    began = time.monotonic()
    if backbone is None:
        raise RecipeError("a pretrained network", "none is given", "Name one: --from FILE.")
    device = choose(device)
    part = None if shard is None else Shard.parse(shard)
    place = None if out is None else _check_place(out, part)
    network = open_backbone(
        backbone,
        prepare=prepare,
        at=None if at is None else tuple(at),
        offline=offline,
        watcher=watcher,
    )
    images = find_images(
        data,
        test=None if test is None else os.fspath(test),
        classes=classes,
        columns=columns,
        follow_links=follow_links,
        outside=outside,
        stdin=stdin,
        shard=part,
        watcher=watcher,
    )
    place = place or _check_place(legal_name(f"{images.title}-{network.name}.npz"), part)
    watcher.fact("Network", network.words)
    # All values are computed, for a training may want them; the first alone is taken.
    taken = network.at if at is not None else network.at[:1]
    with place.errors():
        watcher = place.watcher(watcher)
        embedder = _Embedder(network, images.dataset, device, watcher)
        return _write(images, embedder, taken, place, on=on, watcher=watcher, began=began)


def _check_place(out: str | os.PathLike[str], shard: Shard | None) -> OutFile:
    """Return where rows go, if a file can be written there."""
    place = OutFile.read(out, shard)
    with place.errors():
        # Without its manifest a shard is not finished, nor what is for a store without its object.
        check_feature_file(place.path, replace=shard is not None or place.address is not None)
        place.claim()
    return place


def _write(
    images: ImagesToEmbed,
    embedder: _Embedder,
    taken: tuple[str, ...],
    place: OutFile,
    *,
    on: str,
    watcher: Watcher,
    began: float,
) -> Embedded:
    """Embed images, and write the file."""
    network = embedder.network
    widths = [network.value(name).units for name in taken]
    facts = network.facts(taken)
    made: JsonObject = {
        "backbone": facts.model_dump(mode="json"),
        "units": widths,
        "view": "whole",
        "preparation": _preparation(embedder.like),
    }
    task = None
    if images.inputs is not None:
        classes = None if images.classes is None else list(images.classes)
        task = ShardTask("embed", images.inputs, made | {"classes": classes}, place.path)
    claim = place.claim()
    before = None if task is None else task.finished(claim.finished)
    work = _Work(images, embedder, sum(widths), watcher)
    if before is None:
        with FeatureRows(place.path, sum(widths)) as rows:
            work.run(rows, on)
            unreadable: JsonObject = {"unreadable": _as_json(work.unreadable)}
            origin: JsonObject = {"opsin": __version__, "source": images.source}
            rows.finish(origin | made | unreadable, images.classes)
        count, passed_over = rows.count, work.unreadable
        if task is not None:
            task.finish(count, {"source": images.source, **unreadable})
        place.publish(claim)
    else:
        count = before.rows
        passed_over = [(each["name"], each["reason"]) for each in before.summary["unreadable"]]
        place.settle(claim)
        watcher.note(f"{place.path} is finished")
    return Embedded(
        out=place.shown,
        images=count,
        units=sum(widths),
        computed=work.computed,
        unreadable=tuple(passed_over),
        classes=images.classes,
        backbone=facts,
        preparation=embedder.like,
        device=choose(embedder.device),
        seconds=time.monotonic() - began,
    )


def _as_json(unreadable: Sequence[tuple[str, str]]) -> list[JsonObject]:
    return [{"name": name, "reason": reason} for name, reason in unreadable]


def _preparation(preparation: Preparation) -> JsonObject:
    return preparation.model_dump(mode="json", exclude={"background"}, exclude_none=True)


@dataclass(frozen=True)
class _Pixels:
    """An image that is decoded, and what it is known by."""

    digest: NDArray[np.uint8]
    source: NDArray[np.uint8]
    pixels: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class _Found:
    """The features of an image; those that were computed now are still to be kept."""

    digest: bytes
    features: NDArray[np.float32] = field(repr=False)
    source: NDArray[np.uint8] | None = None


class _Embedder:
    """Computes features, here or in another process."""

    def __init__(
        self, network: Backbone, dataset: Dataset | None, device: str, watcher: Watcher
    ) -> None:
        from opsin.backbones.feature_graph import usual_preparation  # noqa: PLC0415  loads onnx

        self.network, self.device, self._dataset = network, device, dataset
        #: How images are prepared: as those of the dataset are, or as the network wants them.
        self.like = usual_preparation(network)
        if dataset is not None:
            height, width, channels = dataset.images.shape[1:]
            resize, bits = dataset.recipe.resize, dataset.recipe.bits
            self.like = Preparation(
                height=height, width=width, channels=channels, resize=resize, bits=bits
            )
        self._open(watcher)

    def _open(self, watcher: Watcher = SILENT) -> None:
        from opsin.backbones.features import Extractor  # noqa: PLC0415  loads onnx

        shape = (self.like.height, self.like.width, self.like.channels)
        #: Computes features of pixels, and knows those that are kept.
        self.extractor = Extractor(self.network, shape, "whole", self.device, watcher)

    def __getstate__(self) -> dict[str, object]:
        """Return the network: a copy in another process opens it there."""
        return vars(self) | {"_dataset": None, "extractor": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._open()

    def block(self, items: list[ListedImage]) -> list[_Found | ImageError | Unseen]:
        """Return the features of a block of images, on a node."""
        answers: dict[int, _Found | ImageError | Unseen] = {}
        ready: dict[int, _Pixels] = {}
        for place, item in enumerate(read_ahead(items)):
            try:
                found = self.prepare(item)
            except ImageError as error:
                answers[place] = unseen_or(error, item.path)
                continue
            if isinstance(found, Done):
                answers[place] = found.answer
            else:
                ready[place] = found
        if ready:
            answers.update(zip(ready, self.compute(list(ready.values())), strict=True))
        return [answers[place] for place in range(len(items))]

    def prepare(self, item: ListedImage) -> _Pixels | Done[_Found]:
        """Decode an image; raises `ImageError` where it cannot be read."""
        from opsin.backbones.features import source_keys  # noqa: PLC0415  loads onnx

        if item.problem:
            raise item.problem
        cache, dataset = self.extractor.cache, self._dataset
        if dataset is not None:
            digest, own = dataset.digests[item.row], dataset.source_digests[item.row]
        else:
            content, own = content_and_digest(item.image, item.name)
        (source,) = source_keys(own[None], self.like)
        if known := cache.find(source.tobytes(), "sources"):
            return Done(_Found(*known))
        if dataset is None:
            pixels = read_image(content, self.like, item.name)
            (digest,) = digest_rows(pixels[None])
        if known := cache.find(digest.tobytes(), "digests"):
            return Done(_Found(*known))
        if dataset is not None:
            pixels = dataset.images[item.row]
        return _Pixels(digest, source, pixels)

    def compute(self, batch: list[_Pixels]) -> list[_Found]:
        """Return the features of a batch."""
        features = self.extractor.rows_of(np.stack([each.pixels for each in batch]))
        return [
            _Found(each.digest.tobytes(), row, each.source)
            for each, row in zip(batch, features, strict=True)
        ]

    def cost(self, item: ListedImage) -> int:
        """Return the bytes that an image takes while it is on its way."""
        content = len(item.image) if isinstance(item.image, bytes) else 0
        return content + self.like.height * self.like.width * self.like.channels


class _Work:
    """Takes images up in their order, and keeps what is computed."""

    def __init__(
        self, images: ImagesToEmbed, embedder: _Embedder, units: int, watcher: Watcher
    ) -> None:
        self._images, self._embedder = images, embedder
        self._units, self._watcher = units, watcher
        self._unkept: list[_Found] = []
        self._kept = self._said = time.monotonic()
        self._kept_count, self._refusal_noted = 0, False
        #: Images whose features were computed, and name and reason of each that cannot be read.
        self.computed = 0
        self.unreadable: list[tuple[str, str]] = []

    def run(self, rows: FeatureRows, on: str) -> None:
        """Write a row for each image that can be read."""
        from opsin.backbones.features import KEPT  # noqa: PLC0415  loads onnx

        if self._images.count:
            self._watcher.begin("Embed", self._images.count, "images")
        answers = self._answers_on(on) if is_elsewhere(on) else self._answers()
        try:
            with closing(answers):
                for item, answer in answers:
                    self._take(item, answer, rows)
                    if len(self._unkept) >= KEPT or time.monotonic() - self._kept > _OFTEN:
                        self._keep()
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
        if len(self.unreadable) > _NAMED:
            self._watcher.note(f"{counted(len(self.unreadable), 'file')} could not be read")
        if not rows.count and self._images.inputs is None:
            received = f"{self._images.source} holds none"
            if self.unreadable:
                name, reason = self.unreadable[0]
                received = f"none of the {len(self.unreadable):,} can ({name}: {reason})"
            raise SourceError("images that can be read", received, "Check the files.")

    def _answers(self) -> Generator[tuple[ListedImage, _Found | ImageError]]:
        """Yield each image with its features, computed here."""
        from opsin.backbones.features import BATCH  # noqa: PLC0415  loads onnx

        embedder = self._embedder
        steps = ImageSteps(
            prepare=embedder.prepare, compute=embedder.compute, cost=embedder.cost,
            batch=BATCH, together=THREADS,
        )  # fmt: skip
        images = read_ahead(self._images.each())
        return answer_images(steps, images, end_wait=self._images.end_wait)

    def _answers_on(self, on: str) -> Generator[tuple[ListedImage, _Found | ImageError]]:
        """Yield each image with its features, computed by a cluster."""
        images, embedder = self._images, self._embedder
        if images.dataset is not None:
            raise RecipeError(
                "a source that each node can read itself, to work on a cluster",
                "got a data set in memory",
                "Give the source.",
            )
        sample = None if images.passing else next(images.each(), None)
        with Cluster(on, sample) as cluster:
            yield from cluster.answers(
                embedder.block, images.each(), cost=embedder.cost, count=images.count
            )

    def _take(self, item: ListedImage, answer: _Found | ImageError, rows: FeatureRows) -> None:
        """Add an image's row, or note why there is none."""
        if isinstance(answer, ImageError):
            reason = reason_of(item.name, answer)
            self.unreadable.append((item.name, reason))
            if len(self.unreadable) <= _NAMED:
                self._watcher.note(f"{item.name}: {reason}")
        else:
            features = answer.features[: self._units]
            rows.add(FeatureRow(item.name, item.label, item.part, answer.digest, features))
            if answer.source is not None:
                self.computed += 1
                self._unkept.append(answer)
        done = rows.count + len(self.unreadable)
        if self._images.count:
            self._watcher.advance(min(done, self._images.count))
        elif time.monotonic() - self._said >= _SILENCE:
            self._said = time.monotonic()
            self._watcher.note(f"{done:,} images so far")

    def _keep(self) -> None:
        """Bring what was computed into the cache."""
        cache, found = self._embedder.extractor.cache, self._unkept
        self._unkept, self._kept = [], time.monotonic()
        if not found:
            return
        cache.keep(
            np.stack([np.frombuffer(each.digest, np.uint8) for each in found]),
            np.stack([each.features for each in found]),
            np.stack([cast("NDArray[np.uint8]", each.source) for each in found]),
        )
        if cache.refused is None:
            self._kept_count += len(found)
        elif not self._refusal_noted:
            self._refusal_noted = True
            self._watcher.note(
                f"features cannot be kept in the cache ({cache.refused}): stopped, the same "
                "command would begin anew"
            )
