"""Weights by name from safetensors or a checkpoint of PyTorch; nothing else is built.

A checkpoint is a pickle, which could run anything. Here nothing is unpickled: its operations are
taken apart, and those that a dictionary of tensors is made of are followed, by a reader that builds
nothing else. Any other one is refused (the idea of PyTorch's own ``weights_only``).

PyTorch has two forms: a zip (since 1.6), with the numbers beside the pickle, and before it a file
of several pickles, with the numbers behind them.
"""

from __future__ import annotations

import io
import json
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opsin.core.files import open_regular
from opsin.runtime.onnx_scan import printable, refused

_LARGEST_HEADER: Final = 64 << 20
_LARGEST_PICKLE: Final = 64 << 20
_MOST: Final = 100_000
_ZIP: Final = b"PK\x03\x04"
#: First bytes of a checkpoint before PyTorch 1.6: a pickle of the number 0x1950a86a20f9469cfc6c.
LEGACY: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
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
    """Return the tensors of a ``.safetensors`` file or of a checkpoint of PyTorch, by name."""
    with open_regular(path) as file:
        start = file.read(len(LEGACY))
        file.seek(0)
        if start.startswith(_ZIP):
            tensors = _checkpoint(path.name, file, _zipped)
        elif start == LEGACY:
            tensors = _checkpoint(path.name, file, _legacy)
        else:
            tensors = _safetensors(path.name, file)
    for name, values in tensors.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise refused(path.name, f"weight {printable(name)} holds values that are no numbers")
    return tensors


def _safetensors(name: str, file: BinaryIO) -> Tensors:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LARGEST_HEADER) or length < 2:
        raise refused(name, "it is no safetensors file: its header is longer than the file")
    try:
        header = json.loads(file.read(length))
        listed = {key: entry for key, entry in header.items() if key != "__metadata__"}
        return {key: _slice(file, 8 + length, size, entry) for key, entry in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refused(name, f"it is no safetensors file ({printable(error)})") from error


def _slice(file: BinaryIO, start: int, size: int, stated: Mapping[str, Any]) -> NDArray[Any]:
    kind = np.dtype(_KINDS[stated["dtype"]])
    shape = tuple(int(dim) for dim in stated["shape"])
    first, last = (int(offset) for offset in stated["data_offsets"])
    if any(dim < 0 for dim in shape) or not 0 <= first <= last <= size - start:
        raise ValueError("a weight outside the file")
    if math.prod(shape) * kind.itemsize != last - first:
        raise ValueError("a weight of another size than stated")
    file.seek(start + first)
    return np.frombuffer(file.read(last - first), kind).reshape(shape)


def _checkpoint(name: str, file: BinaryIO, read: Callable[[BinaryIO], Tensors]) -> Tensors:
    try:
        tensors = read(file)
    except NotTensorsError as error:
        advice = "Save the weights alone: torch.save(model.state_dict(), FILE)."
        raise refused(name, f"it holds more than weights ({printable(error)})", advice) from error
    except (
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise refused(name, f"it is no checkpoint of PyTorch ({printable(error)})") from error
    if not tensors:
        raise refused(name, "it holds no weights by name")
    return tensors


def _zipped(file: BinaryIO) -> Tensors:
    with zipfile.ZipFile(file) as archive:
        (inner,) = (member for member in archive.namelist() if member.endswith("data.pkl"))
        if archive.getinfo(inner).file_size > _LARGEST_PICKLE:
            raise ValueError("its list of weights is too long")
        stem = inner.removesuffix("data.pkl")
        tensors = _weights_in(_TensorReader().load(io.BytesIO(archive.read(inner))))

        def numbers(storage: _Storage) -> NDArray[Any]:
            info = archive.getinfo(f"{stem}data/{storage.key}")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != storage.size:
                raise NotTensorsError("a storage of another size than stated")
            return np.frombuffer(archive.read(info), storage.dtype)

        return {name: tensor.of(numbers(tensor.storage)) for name, tensor in tensors.items()}


def _legacy(file: BinaryIO) -> Tensors:
    """Read a magic number, a version, facts of the system, the weights, the keys of storages."""
    head = io.BytesIO(file.read(_LARGEST_PICKLE))
    _, _, system = (_TensorReader().load(head) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("its numbers begin with their highest byte")
    reader = _TensorReader()
    tensors = _weights_in(reader.load(head))
    offsets, end = {}, file.seek(0, io.SEEK_END)
    keys = _TensorReader().load(head)
    at = head.tell()
    for key in keys:
        storage = reader.storages[key]
        file.seek(at)
        if int.from_bytes(file.read(8), "little") != storage.length or at + 8 + storage.size > end:
            raise ValueError("a storage of another size than stated")
        offsets[key] = at + 8
        at += 8 + storage.size

    def numbers(storage: _Storage) -> NDArray[Any]:
        file.seek(offsets[storage.key])
        return np.frombuffer(file.read(storage.size), storage.dtype)

    return {name: tensor.of(numbers(tensor.storage)) for name, tensor in tensors.items()}


def _weights_in(whole: object) -> dict[str, _Tensor]:
    if not isinstance(whole, Mapping):
        return {}
    weights = {str(key): value for key, value in whole.items() if isinstance(value, _Tensor)}
    for key in ("model_state_dict", "state_dict", "model"):
        inner = _weights_in(whole.get(key))
        if inner:
            return inner
    others = [_weights_in(value) for value in whole.values() if isinstance(value, Mapping)]
    return max([weights, *others], key=len)


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    length: int

    @property
    def size(self) -> int:
        return self.length * self.dtype.itemsize


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        steps = [step * numbers.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps)
        return np.array(view)


class _Name(NamedTuple):
    """The name of a class or function: text, and nothing more."""

    module: str
    name: str


class NotTensorsError(ValueError):
    """A pickle holds more than a dictionary of tensors."""


# Operations that put a plain value, which stands in the pickle, on the stack.
_PLAIN: Final = frozenset((
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BININT", "BININT1", "BININT2",
    "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINBYTES", "SHORT_BINBYTES",
))  # fmt: skip
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES: Final = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _TensorReader:
    def __init__(self) -> None:
        #: Storages that tensors were found in, by their keys.
        self.storages: dict[str, _Storage] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._left = _MOST

    def load(self, file: BinaryIO) -> Any:
        for operation, argument, _ in pickletools.genops(file):
            self._follow(operation.name, argument)
        return self._stack.pop()

    def _follow(self, name: str, argument: Any) -> None:  # noqa: C901, PLR0912  one case an operation
        stack = self._stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if name in _PLAIN:
                stack.append(argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case _ if name in _TUPLES:
                start = len(stack) - _TUPLES[name]
                stack[start:] = [tuple(stack[start:])]
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[int(argument)] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self._memo[int(argument)])
            case "MARK":
                self._marks.append(len(stack))
            case "GLOBAL":
                stack.append(_Name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                stack.append(_Name(str(module), str(last)))
            case "EMPTY_DICT" | "EMPTY_LIST":
                stack.append({} if name == "EMPTY_DICT" else [])
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "APPEND" | "APPENDS":
                values = self._marked() if name == "APPENDS" else [stack.pop()]
                self._top(list).extend(values)
            case "SETITEM" | "SETITEMS":
                values = self._marked() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                self._top(dict).update(zip(values[::2], values[1::2], strict=True))
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._called(function, arguments))
            case "BUILD":  # attributes of a dictionary
                stack.pop()
                self._top(dict)
            case _:
                raise NotTensorsError(f"an operation {name}")

    def _marked(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _top(self, kind: type[Any]) -> Any:
        top = self._stack[-1]
        if not isinstance(top, kind):
            raise NotTensorsError(f"{type(top).__name__} in the place of {kind.__name__}")
        return top

    def _called(self, function: Any, arguments: Any) -> Any:
        match function:
            case _Name("collections", "OrderedDict") if arguments == ():
                return {}
            case _Name("torch._utils", "_rebuild_tensor_v2"):
                return self._tensor(*arguments)
            case _Name("torch._utils", "_rebuild_parameter"):
                return arguments[0]
        raise NotTensorsError(".".join(function) if isinstance(function, _Name) else "a call")

    def _storage(self, stated: Any) -> _Storage:
        """Return a storage; its numbers lie beside the pickle, or behind it."""
        match stated:
            case ("storage", _Name("torch", kind), str(key), _, int(count), *view) if (
                kind in _STORAGES and key.isalnum() and count >= 0 and not any(view)
            ):
                storage = _Storage(key, np.dtype(_STORAGES[kind]), count)
            case _:
                raise NotTensorsError("an unknown storage")
        if self.storages.setdefault(key, storage) != storage:
            raise NotTensorsError("a storage of another size than stated")
        return storage

    def _tensor(self, storage: Any, offset: int, shape: Any, strides: Any, *_: object) -> _Tensor:
        self._left -= 1
        if not isinstance(storage, _Storage) or self._left < 0:
            raise NotTensorsError("a tensor of something else")
        shape, strides = tuple(map(int, shape)), tuple(map(int, strides))
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        inside = offset >= 0 and min((*shape, *strides, 0)) >= 0 and last < storage.length
        if math.prod(shape) > storage.length or (math.prod(shape) and not inside):
            raise NotTensorsError("a tensor outside its storage")
        return _Tensor(storage, int(offset), shape, strides)
