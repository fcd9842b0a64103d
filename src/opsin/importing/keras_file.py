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
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import MissingExtraError
from opsin.core.files import open_regular
from opsin.core.stored_json import JsonObject
from opsin.importing.file_kind import DENSEST, ZIP, read_member
from opsin.importing.keras_config import LayerConfig
from opsin.runtime.onnx_scan import printable, refused

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
# Errors of h5py for hostile files.
_BROKEN: Final = (OSError, RuntimeError, KeyError, ValueError, TypeError)


class WeightList:
    """The weights of one layer in Keras' order, each read when it is asked for."""

    def __init__(self, file: str, stored: Sequence[Any], allowed: int) -> None:
        self._file, self._stored, self._allowed = file, stored, allowed

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each."""
        return [tuple(stored.shape) for stored in self._stored]

    def read(self, number: int, layer: str) -> NDArray[np.float32]:
        """Read one of them, which must be an array of finite numbers within the file."""
        stored = self._stored[number]
        plan = stored.id.get_create_plist()
        filters = {plan.get_filter(number)[0] for number in range(plan.get_nfilters())}
        if stored.dtype.kind not in "fiu":
            fault = "holds no numbers"
        elif stored.is_virtual or stored.external:
            fault = "lies in another file"
        elif not filters <= _FILTERS:
            fault = "is packed in a way of its own"
        elif math.prod(stored.shape) * stored.dtype.itemsize > self._allowed:
            fault = "is declared larger than the file could hold"
        else:
            values: NDArray[np.float32] = np.asarray(stored[()], np.float32)
            if np.isfinite(values).all():
                return values
            fault = "holds values that are no numbers"
        raise refused(self._file, f"a weight of layer {printable(layer)} {fault}")


@dataclass(frozen=True)
class LayerWeights:
    """Where a network's weights are in an open file."""

    name: str
    file: h5py.File
    size: int
    by_name: bool  # of each layer, as in ``.h5``; in ``.keras`` by class and place among its like

    def of(self, trail: Sequence[LayerConfig]) -> WeightList:
        """The weights of the last layer of a trail; the networks around it come first."""
        if self.by_name:
            weights = self._by_name(trail)
        else:
            # As TensorFlow 2.12 to 2.15 wrote it.
            earlier = self._walk(self.file, "_layer_checkpoint_dependencies")
            names = [name for layer in trail for name in ("layers", layer.key)]
            group = self._walk(self.file if earlier is None else earlier, *names, "vars")
            stored = [self._walk(group, str(number)) for number in range(len(group or ()))]
            weights = [entry for entry in stored if isinstance(entry, h5py.Dataset)]
        return WeightList(self.name, weights, DENSEST * self.size)

    def _by_name(self, trail: Sequence[LayerConfig]) -> list[Any]:
        layer = trail[-1].name
        group = self._walk(self.file, "model_weights", trail[0].name)
        names = [] if group is None else self._names(group)
        if len(trail) > 1:  # the names of all layers of a network within a network are in one list
            names = [name for name in names if layer in name.split("/")[:-1]]
        datasets = [self._walk(group, *name.split("/")) for name in names]
        if not all(isinstance(dataset, h5py.Dataset) for dataset in datasets):
            raise refused(self.name, f"weights of layer {printable(layer)} are missing")
        return datasets

    def _names(self, group: Any) -> list[str]:
        """Return the names of a layer's weights; long lists are kept in several attributes."""
        try:
            first = group.attrs.get("weight_names")
            parts = [] if first is None else [first]
            while (more := group.attrs.get(f"weight_names{len(parts)}")) is not None:
                parts.append(more)
            return [
                name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
                for part in parts
                for name in cast(Any, part)
            ]
        except _BROKEN as error:
            raise refused(self.name, f"its weights are broken ({printable(error)})") from error

    def _walk(self, group: Any, *names: str) -> Any:
        """Follow a path in a group; ``None`` if it is missing, and links are refused."""
        for name in names:
            if not isinstance(group, h5py.Group):
                raise refused(self.name, "its weights are in no order that Keras writes")
            try:
                link = group.get(name, getlink=True)
                if link is None:
                    return None
                if isinstance(link, h5py.HardLink):
                    group = group[name]
                    continue
            except _BROKEN as error:
                raise refused(self.name, f"its weights are broken ({printable(error)})") from error
            raise refused(self.name, f"{printable(name)} among its weights is a link")
        return group


@dataclass(frozen=True)
class KerasFile:
    """A network that Keras saved."""

    name: str
    config: Mapping[str, Any]
    version: tuple[int, ...]  # of the Keras that saved it
    weights: LayerWeights


@contextlib.contextmanager
def open_keras(path: Path) -> Iterator[KerasFile]:
    """Open a ``.keras``, ``.h5`` or ``.hdf5`` file for the time of a block."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_regular(path))
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        read = _from_archive if stream.read(len(ZIP)) == ZIP else _from_hdf5
        yield read(path.name, stream, size, stack)


def _from_archive(name: str, stream: BinaryIO, size: int, stack: contextlib.ExitStack) -> KerasFile:
    try:
        archive = stack.enter_context(zipfile.ZipFile(stream))
        config, about = (
            _json(name, read_member(archive, name, member, _LARGEST_TEXT))
            for member in ("config.json", "metadata.json")
        )
        info = archive.getinfo(_WEIGHTS)
        if info.compress_type == zipfile.ZIP_STORED:  # read where it lies
            content = stack.enter_context(cast(BinaryIO, archive.open(info)))
        else:
            content = io.BytesIO(read_member(archive, name, _WEIGHTS, _LARGEST_WEIGHTS))
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, EOFError) as error:
        reason = f"one of its parts is missing or broken ({printable(error)})"
        raise refused(name, reason, "Save it again: model.save('NAME.keras').") from error
    weights = LayerWeights(name, stack.enter_context(_hdf5(name, content)), size, by_name=False)
    return KerasFile(name, config, _version(about.get("keras_version")), weights)


def _from_hdf5(name: str, stream: BinaryIO, size: int, stack: contextlib.ExitStack) -> KerasFile:
    file = stack.enter_context(_hdf5(name, stream))
    try:
        text, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
    except _BROKEN as error:
        raise refused(name, f"it is broken ({printable(error)})") from error
    if text is None:
        advice = "Save the whole model: model.save('NAME.keras')."
        raise refused(name, "it holds weights alone, and no network", advice)
    config = _json(name, text if isinstance(text, bytes) else str(text).encode())
    weights = LayerWeights(name, file, size, by_name=True)
    return KerasFile(name, config, _version(version), weights)


def _hdf5(name: str, stream: BinaryIO) -> h5py.File:
    try:
        return h5py.File(stream, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise refused(name, f"its weights are no HDF5 ({printable(error)})") from error


def _json(name: str, text: bytes) -> JsonObject:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused(name, "its configuration is no JSON") from error
    if not isinstance(config, dict):
        raise refused(name, "its configuration is not that of a network")
    return config


def _version(text: object) -> tuple[int, ...]:
    """Return the numbers of a version; that of the first Keras if it is unknown."""
    shown = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
    numbers = tuple(int(part) for part in re.findall(r"\d{1,6}", shown.split("-")[0])[:3])
    return numbers or (1,)
