"""A pretrained network, ready to turn images into features."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from opsin.backbones.efficientnet_lite import PIXELS, read_network
from opsin.backbones.named_backbones import NAMED, PackagedWeights, full_name
from opsin.backbones.pixel_values import CHOICES, PixelValues
from opsin.backbones.probe import Probed, Value
from opsin.backbones.probed_network import probed_network
from opsin.core.artifacts.run_directory import find_classifier
from opsin.core.errors import ModelFileError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.metadata import BackboneFacts, Metadata
from opsin.data.spelling import check_choices
from opsin.hub.hub_cache import commit_of, snapshot_of
from opsin.hub.hub_fetch import CARDS, base_of, fetch
from opsin.hub.hub_name import HubName
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.model_check import read_classifier

# Characters of a file about the licence that are read.
_LONGEST: Final = 100_000
#: Said where no licence is stated.
UNKNOWN: Final = "unknown"
# Any scale of pixels, until one is stated.
_UNSTATED: Final = PixelValues(scale=1.0)


@dataclass(frozen=True)
class Backbone:
    """A pretrained network, and what is known of it."""

    name: str
    path: Path
    digest: str  # SHA-256 of the file, in hexadecimal
    content: bytes = field(repr=False)
    probed: Probed = field(repr=False)
    pixels: PixelValues  # `_UNSTATED` where nothing says them
    at: tuple[str, ...]  # the values that are taken as features
    licence: str
    where: HubName | None = None

    @property
    def words(self) -> str:
        """What it is, in a line."""
        return f"{self.name} · {self.pixels.words} · licence: {self.licence}"

    @property
    def side(self) -> tuple[int, int]:
        """Height and width of what it takes."""
        return self.probed.side

    @cached_property
    def graph(self) -> OnnxGraph:
        """Its operators and weights."""
        return OnnxGraph(self.content, layers=())

    def value(self, name: str) -> Value:
        """Return one of its values."""
        return next(value for value in self.probed.values if value.name == name)

    def facts(self, at: tuple[str, ...]) -> BackboneFacts:
        """Return what files say of it that hold it, or features of it."""
        return BackboneFacts(
            name=self.name, sha256=self.digest, licence=self.licence, pixels=self.pixels.words,
            at=at,
        )  # fmt: skip

    @property
    def units(self) -> tuple[int, ...]:
        """How many numbers each of `at` comes to."""
        return tuple(self.value(name).units for name in self.at)


def open_backbone(
    what: str | os.PathLike[str],
    *,
    prepare: str | None = None,
    at: tuple[str, ...] | None = None,
    offline: bool = False,
    watcher: Watcher = SILENT,
) -> Backbone:
    """Open a pretrained network whose pixels are known."""
    found = look_into(what, prepare=prepare, offline=offline, watcher=watcher)
    if not found.pixels.stated:
        raise RecipeError(
            f"the pixels that {found.path.name} was trained on",
            "neither the file nor one beside it (preprocessor_config.json, config.json) says them",
            f"Say it: --prepare with one of {', '.join(CHOICES)} (each also with ,bgr), or a JSON "
            "file; where the network was published, it is called preprocessing.",
        )
    if not at:
        return found
    names = [value.name for value in found.probed.values]
    check_choices("value", at, names, RecipeError)
    return replace(found, at=tuple(dict.fromkeys(at)))


def look_into(
    what: str | os.PathLike[str],
    *,
    prepare: str | None = None,
    offline: bool = False,
    watcher: Watcher = SILENT,
) -> Backbone:
    """Find a pretrained network and what is known of it; its pixels may be unstated."""
    given = None if prepare is None else PixelValues.named(prepare)
    text = full_name(os.fspath(what))
    if text in NAMED and not Path(what).exists():
        named = NAMED[text].where
        if isinstance(named, PackagedWeights):
            return _in_the_box(text, named, given)
        what = str(named)
    path, where = _file_of(what, offline, watcher)
    content = read_classifier(path)
    try:
        beside = PixelValues.beside(path)
    except RecipeError:
        if given is None:
            raise
        beside = None
    side = next((each.side for each in (given, beside) if each and each.side), None)
    probed, present = probed_network(content, str(path), side)
    ours = any(key.startswith("opsin.") for key in probed.properties)
    if ours:
        Metadata.from_props(probed.properties, str(path))  # refuses a damaged one
    if ours or probed.dtype == "uint8":
        given = _of_bytes(given, path.name, ours=ours)
    elif given is not None and beside is not None and not given.same_as(beside):
        watcher.note(
            f"{given.stated} is used, although {beside.stated} beside {path.name} says otherwise: "
            f"{beside.words}"
        )
    stated = probed.properties.get("license") or probed.properties.get("licence")
    name = f"{where.repository}@{where.revision[:12]}" if where else path.stem
    return Backbone(
        path.parent.name if path.name == "classifier.onnx" else name,
        path,
        hashlib.sha256(content).hexdigest(),
        present,
        probed,
        given or beside or _UNSTATED,
        _usual_values(probed),
        stated or (_licence_on_hub(where) if where else licence_beside(path)),
        where,
    )


def _usual_values(probed: Probed) -> tuple[str, ...]:
    return tuple(dict.fromkeys((probed.features, *probed.depths)))


def _in_the_box(name: str, weights: PackagedWeights, given: PixelValues | None) -> Backbone:
    """Return a network whose weights come with Opsin."""
    if given is not None and not given.same_as(PIXELS):
        wanted = f"no --prepare, since it is known how {name} was trained"
        raise RecipeError(wanted, f"got {given.stated}", "Leave it out.")
    path = weights.checked()
    content, probed = read_network(weights.package, path)
    at = _usual_values(probed)
    return Backbone(name, path, weights.sha256, content, probed, PIXELS, at, NAMED[name].licence)


def _of_bytes(given: PixelValues | None, name: str, *, ours: bool) -> PixelValues:
    """Return the pixels of a network whose input is bytes, which it scales itself."""
    own = PixelValues(scale=1.0, stated="its input is bytes")
    if given is None or given.same_as(own):
        return own
    if given.bgr and not ours and given.same_as(own.model_copy(update={"bgr": True})):
        return given
    raise RecipeError(
        f"no --prepare, since {name} takes bytes and scales them itself",
        f"got {given.stated}",
        "Leave it out.",
    )


def _file_of(
    what: str | os.PathLike[str], offline: bool, watcher: Watcher
) -> tuple[Path, HubName | None]:
    """Return a network's file, fetched where a name and no path is given; what exists is a path."""
    path = Path(what)
    if path.is_dir():
        return find_classifier(path), None
    if path.is_file():
        return path, None
    text = os.fspath(what)
    # In a folder that exists, a name is that of a file that does not.
    name = HubName.read(text) if not path.parent.name or not path.parent.is_dir() else None
    if name is None:
        raise ModelFileError(
            "a pretrained network: an ONNX file, a run, or its classifier.onnx",
            f"there is none at {path}",
            f"Check the name. By name: {', '.join(NAMED)}, or owner/name on the hub.",
        )
    found = fetch(name, offline=offline, watcher=watcher)
    return found.path, found.where


def _licence_on_hub(where: HubName) -> str:
    """Return the licence of a repository, else that of the model which its weights are from."""
    folder = snapshot_of(where)
    licence = _licence_in(folder)
    base = base_of(folder / "README.md") if licence == UNKNOWN else None
    there = commit_of(base) if base else None
    if base is None or there is None:
        return licence
    found = _licence_in(snapshot_of(there))
    return licence if found == UNKNOWN else f"{found} (of {base.repository})"


def licence_beside(path: Path) -> str:
    """Return the licence that a file beside a network names; ``unknown`` where none does."""
    return _licence_in(path.parent)


def _licence_in(folder: Path) -> str:
    for name in CARDS:
        try:
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                lines = file.read(_LONGEST).splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip().lower() in ("license", "licence") and value.strip():
                return value.strip().strip("\"'")[:100]
        for line in lines[:5] if name.startswith("LICENSE") else ():
            if "License" in line:
                return line.strip()[:100]
    return UNKNOWN
