"""A pretrained network, ready to turn images into features."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from opsin.backbones.pixel_values import CHOICES, PixelValues
from opsin.backbones.probe import Probed, Value, refused
from opsin.core.artifacts.run_directory import find_classifier
from opsin.core.errors import ModelFileError, RecipeError, SandboxError
from opsin.core.metadata import Metadata
from opsin.core.sandbox import Sandbox
from opsin.data.spelling import check_choices
from opsin.onnx_files.onnx_graph import OnnxGraph
from opsin.runtime.model_check import read_classifier

# Seconds and bytes, beside copies of the file, that looking into one may take.
_SECONDS: Final = 90.0
_MEMORY: Final = 3 << 30
_COPIES: Final = 8
# Files that say under which licence a network is published, and the longest that is read.
_CARDS: Final = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md")
_LONGEST: Final = 100_000
#: Said where no licence is stated.
UNKNOWN: Final = "unknown"


@dataclass(frozen=True)
class Backbone:
    """A pretrained network, as it will be used.

    Args:
        path: Its file.
        digest: SHA-256 of the file, in hexadecimal.
        content: The network in the form that features are computed in.
        probed: What is in it.
        pixels: What it takes for pixels.
        at: Names of the values that are taken as features; the first alone is tried as well.
        licence: Under which it is published; ``unknown`` where nothing says so.
    """

    path: Path
    digest: str
    content: bytes = field(repr=False)
    probed: Probed = field(repr=False)
    pixels: PixelValues
    at: tuple[str, ...]
    licence: str

    @property
    def name(self) -> str:
        """What people call it: its file, or the run it is in."""
        own = self.path.name == "classifier.onnx"
        return self.path.parent.name if own else self.path.stem

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

    @property
    def units(self) -> tuple[int, ...]:
        """How many numbers each of `at` comes to."""
        return tuple(self.value(name).units for name in self.at)


def open_backbone(
    what: str | os.PathLike[str],
    *,
    prepare: str | None = None,
    at: tuple[str, ...] | None = None,
) -> Backbone:
    """Open a pretrained network.

    Args:
        what: An ONNX file, a run, or its ``classifier.onnx``.
        prepare: What it takes for pixels, where nothing says it: ``imagenet``, ``-1..1``, ``0..1``,
            ``0..255``, each also with ``,bgr``, or a JSON file.
        at: Names of values to take as features (default: that before the last dense layer, and
            a few depths beside it).

    Raises:
        ModelFileError: There is no such file, or nothing in it could be features.
        RecipeError: Nothing says what it takes for pixels, or there is no such value.
    """
    path = _file_of(what)
    content = read_classifier(path)
    pixels = None if prepare is None else PixelValues.named(prepare)
    beside = PixelValues.beside(path) if pixels is None else None
    side = next((each.side for each in (pixels, beside) if each and each.side), None)
    probed, present = _probed(content, str(path), side)
    own = _own_metadata(probed, str(path))
    if own is not None or probed.dtype == "uint8":
        pixels = PixelValues(scale=1.0, stated="its input is bytes")
    pixels = pixels or beside
    if pixels is None:
        raise RecipeError(
            f"the pixels that {path.name} was trained on",
            "neither the file nor one beside it (preprocessor_config.json, config.json) says them",
            f"Say it: --prepare with one of {', '.join(CHOICES)} (each also with ,bgr), or a JSON "
            "file; where the network was published, it is called preprocessing.",
        )
    names = at or (probed.features, *(each for each in probed.depths if each != probed.features))
    check_choices("value", names, [value.name for value in probed.values], RecipeError)
    licence = probed.properties.get("license") or probed.properties.get("licence")
    return Backbone(
        path,
        hashlib.sha256(content).hexdigest(),
        present,
        probed,
        pixels,
        tuple(names),
        licence or _licence_beside(path),
    )


def _file_of(what: str | os.PathLike[str]) -> Path:
    path = Path(what)
    if path.is_dir():
        return find_classifier(path)
    if not path.is_file():
        raise ModelFileError(
            "a pretrained network: an ONNX file, a run, or its classifier.onnx",
            f"there is none at {path}",
            "Check the name.",
        )
    return path


def _probed(content: bytes, name: str, side: int | None) -> tuple[Probed, bytes]:
    memory = _MEMORY + _COPIES * len(content)
    try:
        with Sandbox("opsin.backbones.probe:probe", seconds=_SECONDS, memory=memory) as sandbox:
            found, present = sandbox.call({"name": name, "side": side}, content)
    except SandboxError as error:
        raise refused(name, error.received) from error
    values = tuple(
        Value(each["name"], each["op"], tuple(each["shape"])) for each in found.pop("values")
    )
    found |= {"side": tuple(found["side"]), "depths": tuple(found["depths"])}
    return Probed(**found, values=values), present


def _own_metadata(probed: Probed, name: str) -> Metadata | None:
    """Return what travels in a classifier of ours; ``None`` for another's network."""
    if not any(key.startswith("opsin.") for key in probed.properties):
        return None
    return Metadata.from_props(probed.properties, name)


def _licence_beside(path: Path) -> str:
    """Return the licence that a file beside a network names."""
    for name in _CARDS:
        try:
            with (path.parent / name).open(encoding="utf-8", errors="replace") as file:
                lines = file.read(_LONGEST).splitlines()
        except OSError:
            continue
        for line in lines:
            key, _, value = line.partition(":")
            if key.strip().lower() in ("license", "licence") and value.strip():
                return value.strip().strip("\"'")[:100]
        for line in lines[:5] if name.startswith("LICENSE") else ():
            if "License" in line and line.strip():
                return line.strip()[:100]
    return UNKNOWN
