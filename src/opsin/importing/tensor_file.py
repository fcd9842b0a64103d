"""Weights by name, out of safetensors or a checkpoint of PyTorch; nothing else is built.

A checkpoint is a pickle, which could run anything. Here it meets a reader that knows four names:
those that a dictionary of tensors is made of. Any other one is refused (the same idea as PyTorch's
own ``weights_only``).
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Never

import numpy as np
from numpy.typing import NDArray

from opsin.core.regular_file import open_regular
from opsin.importing.refusal import quoted, refused

_LARGEST_HEADER: Final = 64 << 20
_LARGEST_PICKLE: Final = 64 << 20
_MOST: Final = 100_000
_ZIP: Final = b"PK\x03\x04"
_KINDS: Final = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_STORAGES: Final = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16,
    "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip

Tensors = dict[str, NDArray[Any]]


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a ``.safetensors`` file or of a checkpoint of PyTorch, by name.

    Of a checkpoint that holds several dictionaries, the one with the most weights is taken, or what
    lies under ``model``, ``state_dict`` or ``model_state_dict``.

    Raises:
        ModelFileError: It is neither, or holds anything but tensors.
    """
    with open_regular(path) as file:
        start = file.read(len(_ZIP))
        file.seek(0)
        found = _checkpoint(path.name, file) if start == _ZIP else _safetensors(path.name, file)
    for name, values in found.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise refused(path.name, f"weight {quoted(name)} holds values that are no numbers")
    return found


def _safetensors(name: str, file: BinaryIO) -> Tensors:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LARGEST_HEADER) or length < 2:
        raise refused(name, "it is no safetensors file: its header is longer than the file")
    try:
        header = json.loads(file.read(length))
        listed = {key: each for key, each in header.items() if key != "__metadata__"}
        return {key: _slice(file, 8 + length, size, each) for key, each in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refused(name, f"it is no safetensors file ({quoted(error)})") from error


def _slice(file: BinaryIO, start: int, size: int, stated: Mapping[str, Any]) -> NDArray[Any]:
    kind = np.dtype(_KINDS[stated["dtype"]])
    shape = tuple(int(each) for each in stated["shape"])
    first, last = (int(each) for each in stated["data_offsets"])
    if any(each < 0 for each in shape) or not 0 <= first <= last <= size - start:
        raise ValueError("a weight outside the file")
    if math.prod(shape) * kind.itemsize != last - first:
        raise ValueError("a weight of another size than stated")
    file.seek(start + first)
    return np.frombuffer(file.read(last - first), kind).reshape(shape)


def _checkpoint(name: str, file: BinaryIO) -> Tensors:
    try:
        with zipfile.ZipFile(file) as archive:
            (inner,) = (each for each in archive.namelist() if each.endswith("data.pkl"))
            if archive.getinfo(inner).file_size > _LARGEST_PICKLE:
                raise ValueError("its list of weights is too long")
            stem = inner.removesuffix("data.pkl")
            whole = _TensorReader(archive, stem, archive.read(inner)).load()
    except pickle.UnpicklingError as error:
        raise refused(
            name,
            f"it holds more than weights ({quoted(error)})",
            "Save the weights alone: torch.save(model.state_dict(), FILE). Or export the network: "
            "torch.onnx.export(model.eval(), (images,), 'NAME.onnx', dynamo=True).",
        ) from error
    except (
        zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, IndexError, EOFError,
        NotImplementedError, RuntimeError,
    ) as error:  # fmt: skip
        raise refused(name, f"it is no checkpoint of PyTorch ({quoted(error)})") from error
    found = _weights_in(whole)
    if not found:
        raise refused(name, "it holds no weights by name")
    return found


def _weights_in(whole: object) -> Tensors:
    """Return the dictionary of weights, wherever it lies in a checkpoint."""
    if not isinstance(whole, Mapping):
        return {}
    own = {str(key): each for key, each in whole.items() if isinstance(each, np.ndarray)}
    for key in ("model_state_dict", "state_dict", "model"):
        inner = _weights_in(whole.get(key))
        if inner:
            return inner
    others = [_weights_in(each) for each in whole.values() if isinstance(each, Mapping)]
    return max([own, *others], key=len)


@dataclass(frozen=True)
class _Storage:
    """What a tensor's numbers are read from."""

    values: NDArray[Any]


class _TensorReader(pickle.Unpickler):
    """Reads dictionaries of tensors, and refuses all else.

    Args:
        archive: The checkpoint.
        stem: Where in it the numbers are.
        content: The pickle in it.
    """

    def __init__(self, archive: zipfile.ZipFile, stem: str, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._archive, self._stem = archive, stem
        self._left = _MOST

    def find_class(self, module: str, name: str) -> Any:
        """Return what builds a part of a tensor; a name is compared, and never looked up."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return self._tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _parameter
        if module == "torch" and name in _STORAGES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the numbers of a storage, which lie beside the pickle."""
        word, kind, key, _, count = pid
        if word != "storage" or kind not in _STORAGES or not str(key).isalnum():
            _refuse("an unknown storage")
        dtype = np.dtype(_STORAGES[kind])
        info = self._archive.getinfo(f"{self._stem}data/{key}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != count * dtype.itemsize:
            _refuse("a storage of another size than stated")
        return _Storage(np.frombuffer(self._archive.read(info), dtype))

    def _tensor(
        self, storage: Any, offset: int, shape: Any, strides: Any, *_: object
    ) -> NDArray[Any]:
        self._left -= 1
        if not isinstance(storage, _Storage) or self._left < 0:
            _refuse("a tensor of something else")
        shape, strides = tuple(map(int, shape)), tuple(map(int, strides))
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        inside = offset >= 0 and min((*shape, *strides, 0)) >= 0 and last < storage.values.size
        if math.prod(shape) and not inside:
            _refuse("a tensor outside its storage")
        if math.prod(shape) > storage.values.size:
            _refuse("a tensor larger than its storage")
        steps = [step * storage.values.itemsize for step in strides]
        view = np.lib.stride_tricks.as_strided(storage.values[offset:], shape, steps)
        return np.array(view)


def _parameter(tensor: Any, *_: object) -> Any:
    return tensor


def _refuse(what: str) -> Never:
    raise pickle.UnpicklingError(what)
