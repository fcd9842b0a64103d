"""A Keras file as plain data: its configuration, and the weights of each layer.

Nothing that the file names is looked up: no class, no module, no function, no other file.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.core.regular_file import open_regular
from opsin.core.stored_json import JsonObject
from opsin.importing.archive_member import DENSEST, read_member
from opsin.importing.keras_config import LayerConfig
from opsin.onnx_files.refusal import quoted, refused

# A library of filters from outside would be code that the file chooses.
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("reading Keras files", "evaluate") from error

_LARGEST_TEXT: Final = 64 << 20
_LARGEST_WEIGHTS: Final = 4 << 30
# HDF5's own: deflate, shuffle, Fletcher's checksum; LZF is h5py's.
_FILTERS: Final = frozenset((1, 2, 3, 32_000))
_WEIGHTS: Final = "model.weights.h5"
_ZIP: Final = b"PK\x03\x04"


class LayerWeights(Protocol):
    """Where a network's weights are."""

    def of(self, trail: Sequence[LayerConfig]) -> WeightList:
        """Return the weights of a layer, in Keras' order."""


class WeightList:
    """The weights of one layer, each read when it is asked for."""

    def __init__(self, file: str, found: Sequence[Any], allowed: int) -> None:
        self._file, self._found, self._allowed = file, found, allowed

    def __len__(self) -> int:
        return len(self._found)

    def shape(self, place: int) -> tuple[int, ...]:
        """Return the shape of one of them."""
        return tuple(self._found[place].shape)

    def read(self, place: int, layer: str) -> NDArray[np.float32]:
        """Read one of them."""
        stored = self._found[place]
        of = f"a weight of layer {quoted(layer)}"
        if stored.dtype.kind not in "fiu":
            raise refused(self._file, f"{of} holds no numbers")
        if stored.is_virtual or stored.external:
            raise refused(self._file, f"{of} lies in another file")
        plan = stored.id.get_create_plist()
        filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
        if not filters <= _FILTERS:
            raise refused(self._file, f"{of} is packed in a way of its own")
        if math.prod(stored.shape) * stored.dtype.itemsize > self._allowed:
            raise refused(self._file, f"{of} is declared larger than the file could hold")
        values: NDArray[np.float32] = np.asarray(stored[()], np.float32)
        if not np.isfinite(values).all():
            raise refused(self._file, f"{of} holds values that are no numbers")
        return values


@dataclass(frozen=True)
class KerasFile:
    """A network that Keras saved."""

    name: str
    config: Mapping[str, Any]
    version: tuple[int, ...]
    weights: LayerWeights


@contextlib.contextmanager
def open_keras(path: Path) -> Iterator[KerasFile]:
    """Open a ``.keras``, ``.h5`` or ``.hdf5`` file for the time of a block."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_regular(path))
        if stream.read(len(_ZIP)) == _ZIP:
            yield _from_archive(path.name, stream, stack)
        else:
            yield _from_hdf5(path.name, stream, stack)


def _from_archive(name: str, stream: BinaryIO, stack: contextlib.ExitStack) -> KerasFile:
    size = stream.seek(0, io.SEEK_END)
    try:
        archive = stack.enter_context(zipfile.ZipFile(stream))
        texts = {
            member: _json(name, read_member(archive, name, member, _LARGEST_TEXT))
            for member in ("config.json", "metadata.json")
        }
        content = stack.enter_context(_weights(archive, name))
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
        raise refused(
            name, f"one of its parts is missing or broken ({quoted(error)})",
            "Save it again: model.save('NAME.keras').",
        ) from error  # fmt: skip
    file = stack.enter_context(_hdf5(name, content))
    version = _version(texts["metadata.json"].get("keras_version"))
    return KerasFile(name, texts["config.json"], version, _ByPlace(name, file, size))


def _weights(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    """Open the weights: where they lie as they are, in their place, else unpacked in memory."""
    info = archive.getinfo(_WEIGHTS)
    if info.compress_type == zipfile.ZIP_STORED:
        return cast(BinaryIO, archive.open(info))
    return io.BytesIO(read_member(archive, name, _WEIGHTS, _LARGEST_WEIGHTS))


def _from_hdf5(name: str, stream: BinaryIO, stack: contextlib.ExitStack) -> KerasFile:
    size = stream.seek(0, io.SEEK_END)
    file = stack.enter_context(_hdf5(name, stream))
    try:
        text = file.attrs.get("model_config")
        version = file.attrs.get("keras_version")
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise refused(name, f"it is broken ({quoted(error)})") from error
    if text is None:
        raise refused(
            name,
            "it holds weights alone, and no network",
            "Save the whole model: model.save('NAME.keras').",
        )
    config = _json(name, text if isinstance(text, bytes) else str(text).encode())
    return KerasFile(name, config, _version(version), _ByName(name, file, size))


def _hdf5(name: str, stream: BinaryIO) -> h5py.File:
    try:
        return h5py.File(stream, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise refused(name, f"its weights are no HDF5 ({quoted(error)})") from error


def _json(name: str, text: bytes) -> JsonObject:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused(name, "its configuration is no JSON") from error
    if not isinstance(found, dict):
        raise refused(name, "its configuration is not that of a network")
    return found


def _version(text: object) -> tuple[int, ...]:
    """Return the numbers of a version; that of the first Keras with a file where none is said."""
    shown = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
    numbers = tuple(int(part) for part in re.findall(r"\d{1,6}", shown.split("-")[0])[:3])
    return numbers or (1,)


def _child(file: str, group: Any, name: str) -> Any:
    """Return what lies under a name in a group, where it lies there itself; else ``None``."""
    if not isinstance(group, h5py.Group):
        raise refused(file, "its weights are in no order that Keras writes")
    try:
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise refused(file, f"{quoted(name)} among its weights is a link")
        return group[name]
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise refused(file, f"its weights are broken ({quoted(error)})") from error


def _walk(file: str, group: Any, names: Sequence[str]) -> Any:
    for name in names:
        if group is None:
            return None
        group = _child(file, group, name)
    return group


@dataclass(frozen=True)
class _ByPlace:
    """The weights of a ``.keras`` file: by the class of each layer and its place among them."""

    name: str
    file: h5py.File
    size: int

    def of(self, trail: Sequence[LayerConfig]) -> WeightList:
        """Return the weights of the last layer of a trail."""
        names = [name for layer in trail for name in ("layers", layer.key)]
        group = _walk(self.name, self._top(), names)
        found = list(self._stored(group)) if group is not None else []
        return WeightList(self.name, found, DENSEST * self.size)

    def _top(self) -> Any:
        # As TensorFlow 2.12 to 2.15 wrote it.
        earlier = _child(self.name, self.file, "_layer_checkpoint_dependencies")
        return self.file if earlier is None else earlier

    def _stored(self, group: Any) -> Iterator[Any]:
        own = _child(self.name, group, "vars")
        for number in range(0 if own is None else len(own)):
            stored = _child(self.name, own, str(number))
            if isinstance(stored, h5py.Dataset):
                yield stored
        for part in _PARTS:
            inner = _child(self.name, group, part)
            if isinstance(inner, h5py.Group):
                yield from self._stored(inner)


# Layers within a layer that hold weights, in the order that Keras lists these.
_PARTS: Final = (
    "query_dense", "_query_dense", "key_dense", "_key_dense", "value_dense", "_value_dense",
    "output_dense", "_output_dense", "attention_output",
)  # fmt: skip


@dataclass(frozen=True)
class _ByName:
    """The weights of an ``.h5`` file: by the name of each layer."""

    name: str
    file: h5py.File
    size: int

    def of(self, trail: Sequence[LayerConfig]) -> WeightList:
        """Return the weights of the last layer of a trail."""
        own = trail[-1].name
        group = _walk(self.name, self.file, ["model_weights", trail[0].name])
        names = [] if group is None else _names(self.name, group)
        if len(trail) > 1:  # the names of all layers of a network within a network are in one list
            names = [name for name in names if own in name.split("/")[:-1]]
        found = [_walk(self.name, group, name.split("/")) for name in names]
        if not all(isinstance(each, h5py.Dataset) for each in found):
            raise refused(self.name, f"weights of layer {quoted(own)} are missing")
        return WeightList(self.name, found, DENSEST * self.size)


def _names(file: str, group: Any) -> list[str]:
    """Return the names of a layer's weights; long lists are kept in several attributes."""
    try:
        given = group.attrs.get("weight_names")
        parts = [given] if given is not None else []
        while (more := group.attrs.get(f"weight_names{len(parts)}")) is not None:
            parts.append(more)
        names = [cast(Any, name) for part in parts for name in part]
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise refused(file, f"its weights are broken ({quoted(error)})") from error
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            for name in names]  # fmt: skip
