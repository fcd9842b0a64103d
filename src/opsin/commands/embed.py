"""The verb `embed`: features of images by a pretrained network."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, PlainSerializer

from opsin.commands.predict.answers_file import Answer, AnswersFile
from opsin.commands.predict.out_file import OutFile, feature_row, shard_facts, write_features
from opsin.commands.predict.rows import Unreadable, reason_of
from opsin.commands.predict.stream import Progress, open_streams
from opsin.core.arguments import checked
from opsin.core.arrays import Floats
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
from opsin.data.image_engine import ImageSteps, answer_images
from opsin.data.image_stream import ListedImage, Shard, ShardInputs, Stream
from opsin.data.images import read_image
from opsin.data.lazy_images import THREADS
from opsin.data.sources import Reading
from opsin.data.sources.contents import LabelledImages
from opsin.runtime.cluster import Cluster, is_elsewhere
from opsin.runtime.providers import choose
from opsin.stores.bucket import StoreAddress

try:
    from opsin.backbones.backbone import Backbone, open_backbone
    from opsin.backbones.feature_graph import usual_preparation
    from opsin.backbones.features import BATCH, Extractor
except ImportError as error:
    raise MissingExtraError("pretrained networks", "evaluate") from error


def _preparation(preparation: Preparation) -> JsonObject:
    return preparation.model_dump(mode="json", exclude={"background"}, exclude_none=True)


class Embedded(BaseModel, frozen=True):
    """The result of `embed`."""

    out: Annotated[Path | StoreAddress, PlainSerializer(str)]  #: The file
    images: int  #: Images in it
    units: int  #: Features per image, D
    computed: int  #: Images whose features were computed now; the others were kept before
    unreadable: Unreadable  #: Name and reason of each file that was skipped
    classes: tuple[str, ...] | None  #: Class names of the labels, or ``None`` without labels
    backbone: BackboneFacts  #: The network
    #: The preparation of images for it
    preparation: Annotated[Preparation, PlainSerializer(_preparation, return_type=dict)]
    device: str  #: The device that computed features
    seconds: float  #: Duration


@checked
def embed(
    data: object,
    *,
    backbone: str | os.PathLike[str] | None = None,
    prepare: str | None = None,
    at: Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
    offline: bool = False,
    shard: str | None = None,
    on: str = "local",
    device: str = "auto",
    watcher: Watcher = SILENT,
    **reading: Unpack[Reading],
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
        classes: Classes to keep, in this order.
        offline: Use only a network that is on this machine.
        shard: ``2/3``: only the second of three equal parts of the source, into
            ``photos-00002-of-00003.npz.sqlite``, from which `merge` makes the file.
        on: ``local``, or a Ray cluster: ``ray`` or ``ray://HOST:PORT``; the features are the same.
        device: Device of each machine: see `opsin.Classifier`.
        watcher: Receives progress and notes.
        **reading: As for `classify`.

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
    values = None if at is None else tuple(at)
    network = open_backbone(backbone, prepare=prepare, at=values, offline=offline, watcher=watcher)
    images = _find_images(data, classes, reading, part or Shard(1, 1), watcher)
    target = target or _open_target(legal_name(f"{images.title}-{network.name}.npz"), part)
    watcher.fact("Network", network.words)
    embedder = _Embedder(network, device, watcher)
    taken = network.at if at is not None else network.at[:1]  # of all, which are computed anyway
    facts = network.facts(taken)
    widths = [network.value(name).units for name in taken]
    begun: JsonObject = {
        "backbone": facts.model_dump(mode="json"),
        "units": widths,
        "view": "whole",
        "preparation": _preparation(embedder.like),
        "classes": None if images.classes is None else list(images.classes),
        **shard_facts(images.stream.inputs),
    }
    with target.errors():
        there = target.claim()
        source = images.stream.source
        with AnswersFile(target.database, target.path, begun, kinds=2, source=source) as answers:
            computed = _fill(
                answers, images.stream, embedder, units=sum(widths), on=on, watcher=watcher
            )
            count = answers.counts()[0][0]
            unreadable = [(row.image, (row.line or b"").decode()) for row in answers.rows(1)]
            if not count and part is None:
                answers.remove()
                why = f"None of {len(unreadable):,} images can be read" if unreadable else ""
                why += f" ({': '.join(unreadable[0])})" if unreadable else ""
                raise SourceError(why or f"{source} holds no images")
            answers.finish(partial(write_features, about=answers.about))
            answers.close()
            target.publish(there)
            if target.address is None and not answers.is_shard:
                answers.remove()
    return Embedded(
        out=target.shown,
        images=count,
        units=sum(widths),
        computed=computed,
        unreadable=tuple(unreadable),
        classes=images.classes,
        backbone=facts,
        preparation=embedder.like,
        device=choose(device),
        seconds=time.monotonic() - began,
    )


def _open_target(out: str | os.PathLike[str], shard: Shard | None) -> OutFile:
    target = OutFile.read(out, shard)
    with target.errors():
        is_begun = target.address is not None or os.path.lexists(target.database)
        path = target.path if shard is None else Path(out)
        check_new_file(path, ".npz", replace=shard is not None or is_begun)
        target.claim()
    return target


class _Images(NamedTuple):
    stream: Stream
    title: str
    classes: tuple[str, ...] | None = None


def _find_images(
    data: object, classes: Sequence[str] | None, reading: Reading, shard: Shard, watcher: Watcher
) -> _Images:
    """Open a source: its labelled images if it has any, else all."""
    data = list(data) if isinstance(data, list | tuple) else [data]
    if not data:
        raise SourceError("There is no source")
    if any(isinstance(part, Dataset) for part in data):
        raise SourceError("An opsin.Dataset is not embedded", "Give the source that it is from.")
    recipe, held = resolve_sources(data, {"classes": classes, **reading}, watcher)
    names = list(recipe.sources)
    why: SourceError | None = None
    if held is not None or not all(map(_is_one_image, names)):
        try:
            contents = (held or sources.find_all(recipe, watcher=watcher)).open()
            return _labelled(contents, recipe, shard)
        except SourceError as error:
            if held is not None or recipe.classes is not None:
                raise
            why = error
    try:
        stream = open_streams(names, shard=shard, watcher=watcher, **reading)
    except SourceError as error:
        raise why or error from None
    if why is not None:
        watcher.note(f"taken as images without labels: {why.message}")
    return _Images(replace(stream, source=recipe.source), recipe.title)


def _is_one_image(source: str) -> bool:
    """Whether a source is an image file, which never has a label."""
    named = os.path.splitext(source)[1].lower() in SUFFIXES  # noqa: PTH122  any text
    return named and not os.path.isdir(source)  # noqa: PTH112


def _labelled(contents: LabelledImages, recipe: DataRecipe, shard: Shard) -> _Images:
    contents = contents.keep(recipe.classes)
    if not len(contents):
        raise SourceError(f"{recipe.source} holds no images")

    def at(row: int) -> ListedImage:
        label, part = int(contents.labels[row]), int(contents.source_parts[row])
        return replace(ListedImage.at(row, contents.names, contents.images), label=label, part=part)

    facts = zip(contents.names, contents.labels, contents.source_parts, strict=True)
    inputs = ShardInputs.of(shard, ("\0".join(map(str, image)) for image in facts))
    rows = inputs.rows
    stream = Stream(recipe.source, "rows", lambda: map(at, rows), lambda: len(rows), inputs=inputs)
    return _Images(stream, recipe.title, tuple(contents.classes))


class _Features(NamedTuple):
    digest: NDArray[np.uint8]
    features: Floats


class _Embedder:
    """Computes features, here or in another process."""

    def __init__(self, network: Backbone, device: str, watcher: Watcher = SILENT) -> None:
        self.network, self.device = network, device
        self.like = usual_preparation(network)
        self._shape = self.like.shape
        self._extractor = Extractor(network, self._shape, "whole", device, watcher)

    def __reduce__(self) -> tuple[object, ...]:
        # Another process opens the network itself.
        return _Embedder, (self.network, self.device)

    def steps(self) -> ImageSteps[NDArray[np.uint8], _Features]:
        return ImageSteps(self.prepare, self.compute, math.prod(self._shape), BATCH, THREADS)

    def prepare(self, item: ListedImage) -> NDArray[np.uint8]:
        return read_image(item.image, self.like, item.name)

    def compute(self, batch: list[NDArray[np.uint8]]) -> list[_Features]:
        images = np.stack(batch)
        return list(map(_Features, digest_rows(images), self._extractor.rows_of(images)))


def _fill(
    answers: AnswersFile,
    stream: Stream,
    embedder: _Embedder,
    *,
    units: int,
    on: str,
    watcher: Watcher,
) -> int:
    """Compute the remaining rows; return how many have features."""
    kind, before, computed = feature_row(units), answers.resumed, 0
    if before:
        watcher.fact("Resumed", f"{counted(before, 'image was', 'images were')} done before")
    progress = Progress("Embed", stream.count(), watcher, answers.append, done=before)
    try:
        with ExitStack() as stack:
            stack.callback(watcher.end)
            stack.callback(progress.keep)
            images, steps = islice(stream, before, None), embedder.steps()
            if is_elsewhere(on):
                cluster = stack.enter_context(Cluster(on, stream.sample()))
                pairs = cluster.answers(steps, images)
            else:
                here = answer_images(steps, images)
                pairs = here
            stack.enter_context(closing(pairs))
            for item, answer in pairs:
                if isinstance(answer, ImageError):
                    reason = reason_of(item.name, answer)
                    progress.add_unreadable(item.name, reason)
                    progress.add(Answer(item.name, 1, reason.encode("utf-8", "backslashreplace")))
                else:
                    computed += 1
                    row = (item.label, item.part, answer.digest, answer.features[:units])
                    progress.add(Answer(item.name, 0, np.array(row, kind).tobytes()))
    except KeyboardInterrupt:
        watcher.note(
            f"stopped: {counted(progress.done, 'image is', 'images are')} done and kept; the same "
            "command goes on from there"
        )
        raise
    progress.note_unreadable()
    return computed
