"""Pretrained networks: the named ones, and facts about any."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnxruntime
from pydantic import BaseModel, Field, ValidationError

from opsin.backbones.named_backbones import NAMED
from opsin.core.arguments import checked
from opsin.core.errors import MissingExtraError, OpsinError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.platform import cores
from opsin.core.storage import write_json
from opsin.data.cache import cache_root
from opsin.hub.hub_name import HubName
from opsin.runtime.providers import cpu_session

if TYPE_CHECKING:
    from opsin.backbones.backbone import Backbone

_BATCH: Final = 8
_SECONDS: Final = 0.5


class ListedBackbone(BaseModel, frozen=True):
    """A network with a short name.

    ``repository`` is one on the hub, or a package, which has no ``revision``. ``size``, in bytes,
    ``side`` and ``multiply_adds`` per image are estimates before it is fetched; until then there is
    no ``path``, and no time per image.
    """

    name: str
    suits: str
    repository: str
    revision: str | None
    size: int
    side: tuple[int, int]
    multiply_adds: int
    milliseconds: float | None
    licence: str
    path: Path | None


class FeatureValue(BaseModel, frozen=True):
    """A value of a network that can serve as features.

    ``shape`` is of one image: ``(units,)``, ``(channels, height, width)`` or ``(tokens, units)``;
    ``usual`` ones are the default.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    usual: bool


class KnownBackbone(BaseModel, frozen=True):
    """Facts about one network.

    ``side`` is height and width of its images; ``pixels`` the values it expects, and where that is
    stated. ``multiply_adds`` and ``milliseconds`` are per image, on this machine, up to its last
    features. ``values`` are its possible features, in order of computation.
    """

    name: str
    path: Path
    sha256: str
    repository: str | None
    size: int
    side: tuple[int, int]
    channels: int
    pixels: str | None
    licence: str
    multiply_adds: int
    milliseconds: float
    values: tuple[FeatureValue, ...]


class MeasuredBackbone(BaseModel, frozen=True):
    """A network's cost on this machine, as cached."""

    side: tuple[int, int]
    multiply_adds: int
    milliseconds: float = Field(gt=0)


@checked
def list_backbones(*, watcher: Watcher = SILENT) -> list[ListedBackbone]:
    """List the networks with names: those in the box first, then those on the hub.

    Nothing is fetched. Those on this machine are measured once.

    Args:
        watcher: Receives a note of each that is here and cannot be used.

    Example:
        >>> [network.name for network in list_backbones()][:2]
        ['efficientnet-lite0', 'efficientnet-lite2']
    """
    rows = []
    for name, published in NAMED.items():
        measured, path = None, None
        try:
            measured = measured_backbone(name) if published.path else None
            path = published.path
        except (OpsinError, OSError) as error:
            watcher.note(f"{name} is here but cannot be used: {error}")
        where = published.where
        rows.append(
            ListedBackbone(
                name=name,
                suits=published.suits,
                repository=published.where.repository,
                revision=where.revision if isinstance(where, HubName) else None,
                size=path.stat().st_size if path else published.size,
                side=measured.side if measured else (published.side, published.side),
                multiply_adds=measured.multiply_adds if measured else published.multiply_adds,
                milliseconds=measured.milliseconds if measured else None,
                licence=published.licence,
                path=path,
            )
        )
    return rows


def measured_backbone(name: str, *, anew: bool = False) -> MeasuredBackbone:
    """Return a local network's cost, measured once; ``anew`` again, but not within the hour."""
    from opsin.backbones.backbone import open_backbone  # noqa: PLC0415  loads onnx

    path = NAMED[name].path
    if path is not None:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        file, kept = _kept(digest)
        if kept is not None and not (anew and abs(time.time() - file.stat().st_mtime) > 3600):
            return kept
    return measure(open_backbone(name, offline=True), anew=True)


def measure(backbone: Backbone, *, anew: bool = False) -> MeasuredBackbone:
    """Measure an open network, keeping the fastest of all measurements."""
    file, kept = _kept(backbone.digest)
    if kept is not None and not anew:
        return kept
    milliseconds = _milliseconds(backbone)
    if kept is not None:
        measured = kept.model_copy(update={"milliseconds": min(milliseconds, kept.milliseconds)})
    else:
        from opsin.classical.backbone_head import BackboneFeatures  # noqa: PLC0415  loads onnx

        shape = (*backbone.side, backbone.probed.channels)
        layers = BackboneFeatures(backbone, shape, backbone.at[:1], ("whole",)).layers()
        work = sum(layer.multiply_adds for layer in layers)
        measured = MeasuredBackbone(
            side=backbone.side, multiply_adds=work, milliseconds=milliseconds
        )
    # Without a writable cache it is measured again next time.
    with contextlib.suppress(StorageError):
        write_json(file, measured.model_dump(mode="json"))
    return measured


def _kept(digest: str) -> tuple[Path, MeasuredBackbone | None]:
    """Return the cache file of a network's cost, and its content."""
    name = f"{digest[:32]}-{cores()}-{onnxruntime.__version__}.json"
    file = cache_root() / "backbones" / name
    with contextlib.suppress(OSError, ValidationError):
        return file, MeasuredBackbone.model_validate_json(file.read_bytes())
    return file, None


def _milliseconds(backbone: Backbone) -> float:
    from opsin.backbones.feature_graph import FeatureGraph  # noqa: PLC0415  loads onnx
    from opsin.onnx_files.postprocessing import IMAGES  # noqa: PLC0415  likewise

    shape = (*backbone.side, backbone.probed.channels)
    graph = FeatureGraph(backbone, shape, ("whole",), backbone.at[:1])
    session = cpu_session(graph.content())
    images = np.random.default_rng(0).integers(0, 256, (_BATCH, *shape), np.uint8)
    began = time.perf_counter()
    session.run(graph.outputs, {IMAGES: images[:1]})
    if (alone := time.perf_counter() - began) > _SECONDS:
        return float(f"{1000 * alone:.4g}")
    session.run(graph.outputs, {IMAGES: images})  # warm-up
    fastest, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until or fastest == float("inf"):
        began = time.perf_counter()
        session.run(graph.outputs, {IMAGES: images})
        fastest = min(fastest, time.perf_counter() - began)
    return float(f"{1000 * fastest / _BATCH:.4g}")


@checked
def describe_backbone(
    what: str | os.PathLike[str],
    *,
    prepare: str | None = None,
    offline: bool = False,
    watcher: Watcher = SILENT,
) -> KnownBackbone:
    """Describe a pretrained network, fetching it from the hub if needed.

    Args:
        what: An ONNX file, a run, or its ``classifier.onnx``; else the name of one on the hub.
        prepare: The pixel values it expects, if they are not stated.
        offline: Whether only what is on this machine may be used.
        watcher: Receives how far a download is.

    Raises:
        ModelFileError: There is no such file or name, or it has no usable features.
        DownloadError: It could not be fetched.
        MissingExtraError: huggingface_hub or onnx is not installed.

    Example:
        >>> describe_backbone("smal")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        opsin.core.errors.ModelFileError: There is no pretrained network at smal. ... on the hub.
    """
    try:
        from opsin.backbones.backbone import look_into  # noqa: PLC0415  loads onnx
    except ImportError as error:
        raise MissingExtraError("looking into networks", "evaluate") from error

    backbone = look_into(what, prepare=prepare, offline=offline, watcher=watcher)
    probed, measured = backbone.probed, measure(backbone)
    return KnownBackbone(
        name=backbone.name,
        path=backbone.path,
        sha256=backbone.digest,
        repository=str(backbone.where) if backbone.where else None,
        size=backbone.path.stat().st_size,
        side=probed.side,
        channels=probed.channels,
        pixels=backbone.pixels.words if backbone.pixels.stated else None,
        licence=backbone.licence,
        multiply_adds=measured.multiply_adds,
        milliseconds=measured.milliseconds,
        values=tuple(
            FeatureValue(
                name=value.name, op=value.op, shape=value.shape, usual=value.name in backbone.at
            )
            for value in probed.values
        ),
    )
