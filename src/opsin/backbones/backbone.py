"""A pretrained network, ready to turn images into features."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto, numpy_helper

from opsin.backbones.efficientnet_lite import PIXELS, read_network
from opsin.backbones.named_backbones import NAMED, PackagedWeights, full_name
from opsin.backbones.pixel_values import CHOICES, PixelValues
from opsin.backbones.probe import probed_network
from opsin.backbones.probed import Probed, Value
from opsin.core.artifacts.run_directory import find_classifier
from opsin.core.errors import ModelFileError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import BackboneFacts, Metadata
from opsin.data.spelling import check_choices
from opsin.hub.hub_fetch import CARDS, fetch
from opsin.hub.hub_name import HubName, snapshot_of
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.model_check import read_classifier
from opsin.runtime.providers import cpu_session

# Most characters read from a file about the licence.
_LONGEST: Final = 100_000
#: The licence if none is stated.
UNKNOWN: Final = "unknown"
_LICENCE_LINE: Final = re.compile(
    r"^[ \t]*licen[sc]e[ \t]*:(.*\S.*)$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class Backbone:
    """A pretrained network and its properties."""

    name: str
    path: Path
    digest: str  # SHA-256 of the file, in hexadecimal
    content: bytes = field(repr=False)
    probed: Probed = field(repr=False)
    pixels: PixelValues  # not `stated` if they are unknown
    at: tuple[str, ...]  # the values that are taken as features
    licence: str
    where: HubName | None = None

    @property
    def words(self) -> str:
        """A description in one line."""
        known = NAMED.get(self.name)
        in_the_box = known is not None and isinstance(known.where, PackagedWeights)
        about = "has seen a million photographs" if in_the_box else self.pixels.words
        return f"{self.name} · {about} · licence: {self.licence}"

    @property
    def side(self) -> tuple[int, int]:
        """Height and width of its images."""
        return self.probed.side

    @cached_property
    def graph(self) -> OnnxGraph:
        """Its operators and weights."""
        return OnnxGraph(self.content, layers=())

    def value(self, name: str) -> Value:
        """Return one of its values."""
        return next(value for value in self.probed.values if value.name == name)

    @property
    def units(self) -> tuple[int, ...]:
        """Number of features of each of `at`."""
        return tuple(self.value(name).units for name in self.at)

    def facts(self, at: tuple[str, ...]) -> BackboneFacts:
        """Return its description for files built on it."""
        pixels, licence = self.pixels.words, self.licence
        return BackboneFacts(
            name=self.name, sha256=self.digest, licence=licence, pixels=pixels, at=at
        )


def open_backbone(
    what: str | os.PathLike[str],
    *,
    prepare: str | None = None,
    at: tuple[str, ...] | None = None,
    offline: bool = False,
    watcher: Watcher = SILENT,
) -> Backbone:
    """Open a pretrained network whose pixels are known."""
    backbone = look_into(what, prepare=prepare, offline=offline, watcher=watcher)
    if not backbone.pixels.stated:
        raise RecipeError(
            f"Neither {backbone.path.name} nor a file beside it (preprocessor_config.json, "
            "config.json) says which pixels it was trained on",
            f"Say it: --prepare with one of {', '.join(CHOICES)} (each also with ,bgr), or a JSON "
            "file; where the network was published, it is called preprocessing.",
        )
    if not at:
        return backbone
    names = [value.name for value in backbone.probed.values]
    check_choices("value", at, names, RecipeError)
    return replace(backbone, at=tuple(dict.fromkeys(at)))


def look_into(
    what: str | os.PathLike[str],
    *,
    prepare: str | None = None,
    offline: bool = False,
    watcher: Watcher = SILENT,
) -> Backbone:
    """Find a pretrained network and its properties; its pixels may be unstated."""
    prepared = None if prepare is None else PixelValues.named(prepare)
    text = full_name(os.fspath(what))
    if text in NAMED and not Path(what).exists():
        named = NAMED[text].where
        if isinstance(named, PackagedWeights):
            return _in_the_box(text, named, prepared)
        what = str(named)
    path, where = _file_of(what, offline, watcher)
    content = read_classifier(path)
    try:
        beside = PixelValues.beside(path)
    except RecipeError:
        if prepared is None:
            raise
        beside = None
    side = next((values.side for values in (prepared, beside) if values and values.side), None)
    probed, present = probed_network(content, str(path), side)
    ours = any(key.startswith("opsin.") for key in probed.properties)
    if ours:
        Metadata.from_props(probed.properties, str(path))  # refuses a damaged one
    if ours or probed.dtype == "uint8":
        prepared = _of_bytes(prepared, path.name, ours=ours)
    elif prepared is not None and beside is not None and not prepared.same_as(beside):
        watcher.note(
            f"{prepared.stated} is used, although {beside.stated} beside {path.name} says "
            f"otherwise: {beside.words}"
        )
    licence = probed.properties.get("license") or probed.properties.get("licence")
    licence = licence or licence_in(snapshot_of(where) if where else path.parent)
    if licence == UNKNOWN and where:  # runs record a named one by its repository
        alike = (named for named in NAMED.values() if named.where.repository == where.repository)
        licence = next((named.licence for named in alike), UNKNOWN)
    name = f"{where.repository}@{where.revision[:12]}" if where else path.stem
    name = path.parent.name if path.name == "classifier.onnx" else name
    pixels = prepared or beside or PixelValues(scale=1.0)
    digest = hashlib.sha256(content).hexdigest()
    return Backbone(name, path, digest, present, probed, pixels, probed.usual, licence, where)


def _in_the_box(name: str, weights: PackagedWeights, prepared: PixelValues | None) -> Backbone:
    if prepared is not None and not prepared.same_as(PIXELS):
        reason = f"it is known how {name} was trained"
        raise RecipeError(f"{prepared.stated} cannot be used: {reason}", "Leave it out.")
    path = weights.checked()
    content, probed = read_network(weights.repository, path)
    return Backbone(
        name, path, weights.sha256, content, probed, PIXELS, probed.usual, NAMED[name].licence
    )


def _of_bytes(prepared: PixelValues | None, name: str, *, ours: bool) -> PixelValues:
    """Return the pixels of a network whose input is bytes, which it scales itself."""
    plain = PixelValues(scale=1.0, stated="its input is bytes")
    if prepared is None or prepared.same_as(plain):
        return plain
    if not ours and prepared.bgr and prepared.same_as(plain.model_copy(update={"bgr": True})):
        return prepared
    reason = f"{name} takes bytes and scales them itself"
    raise RecipeError(f"{prepared.stated} cannot be used: {reason}", "Leave it out.")


def _file_of(
    what: str | os.PathLike[str], offline: bool, watcher: Watcher
) -> tuple[Path, HubName | None]:
    """Return a network's file, fetched if a name is given; an existing path comes first."""
    path = Path(what)
    if path.is_dir():
        return find_classifier(path), None
    if path.is_file():
        return path, None
    # Inside an existing folder, a missing file is not a name on the hub.
    is_path = path.parent.name and path.parent.is_dir()
    name = None if is_path else HubName.read(os.fspath(what))
    if name is None:
        raise ModelFileError(
            f"There is no pretrained network at {path}",
            "Give an ONNX file, a run, its classifier.onnx, or a name: "
            f"{', '.join(NAMED)}, or owner/name on the hub.",
        )
    fetched = fetch(name, offline=offline, watcher=watcher)
    return fetched.path, fetched.where


def licence_in(folder: Path) -> str:
    """Return the licence in a file beside a network; ``unknown`` if there is none."""
    for name in CARDS:
        try:
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                text = file.read(_LONGEST)
        except OSError:
            continue
        if stated := _LICENCE_LINE.search(text):
            return stated[1].strip().strip("\"'")[:100]
        for line in text.splitlines()[:5] if name.startswith("LICENSE") else ():
            if "License" in line:
                return line.strip()[:100]
    return UNKNOWN


def trainable(backbone: Backbone) -> Backbone:
    """Return a network whose packed weights are unpacked, in 32 bits."""
    model = onnx.ModelProto()
    model.CopyFrom(backbone.graph.model)
    _unpack(model)
    if any(weight.data_type == TensorProto.FLOAT16 for weight in model.graph.initializer):
        reason = f"{backbone.path.name} holds numbers of 16 bits, which are too coarse to learn"
        raise RecipeError(reason, "Take an export of it in 32 bits, or leave out --fine-tune.")
    del model.graph.value_info[:]
    return replace(backbone, content=model.SerializeToString())


def _unpack(model: onnx.ModelProto) -> None:
    """Fold values computed from weights alone, such as unpacked bytes, into weights."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    static, moving = set(weights), []
    for node in model.graph.node:
        taken = {name for name in node.input if name}
        if taken and taken <= static:
            static.update(node.output)
        else:
            moving.append(node)
    used = {name for node in moving for name in node.input}
    names = sorted(used & static - weights.keys())
    kept = [weights[name] for name in weights if name in used]
    if names:
        graph = OnnxGraph(model.SerializeToString(), layers=())
        part = onnx.load_model_from_string(graph.up_to(names))
        del part.graph.input[:]
        values = cpu_session(part.SerializeToString()).run(names, {})
        kept += map(numpy_helper.from_array, values, names)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(moving)
    model.graph.initializer.extend(kept)
