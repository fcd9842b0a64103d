"""CIFAR-10 and CIFAR-100 as they are published: pickles in a tar.

A pickle can call anything, so these are read by an unpickler that can build nothing but dicts,
lists, text, numbers and the like, and arrays of bytes (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import io
import math
import pickle
import re
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from opsin.data.sources.arrays import from_arrays
from opsin.data.sources.contents import Contents
from opsin.errors import SourceError

_SHAPE = (3, 32, 32)
#: Bytes of the largest file within: CIFAR-100's training part has 155 million.
_MAX_MEMBER = 256_000_000
_TRAIN = re.compile(r"data_batch_\d+|train")
_TEST = re.compile(r"test_batch|test")
_META = re.compile(r"batches\.meta|meta")
#: The finer classes first: CIFAR-100 has both.
_LABELS = (b"fine_labels", b"labels")
_NAMES = (b"fine_label_names", b"label_names")


def open_cifar(path: Path, *, source: str) -> Contents:
    """Read an archive of CIFAR's batches, for Python.

    Args:
        path: ``cifar-10-python.tar.gz`` or ``cifar-100-python.tar.gz``.
        source: What to call it.

    Raises:
        SourceError: It is damaged, or holds something else.
    """
    files = _read_members(path)
    found = [
        [_batch(path, name, files[name]) for name in sorted(files) if kind.fullmatch(name)]
        for kind in (_TRAIN, _TEST)
    ]
    meta = [files[name] for name in files if _META.fullmatch(name)]
    if not (all(found) and meta):
        raise _wrong(path, f"it holds {', '.join(sorted(files)) or 'none of its files'}")
    train, test = (
        (np.concatenate([images for images, _ in part]), np.concatenate([own for _, own in part]))
        for part in found
    )
    names = _first(meta[0], _NAMES)
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise _wrong(path, "it does not name its classes")
    classes = [name.decode("utf-8", "replace") for name in names]
    return from_arrays(*train, classes, source=source, test=test)


def _read_members(path: Path) -> dict[str, dict[Any, Any]]:
    """Return the files that matter, unpickled, by their names without folder."""
    files: dict[str, dict[Any, Any]] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                wanted = any(kind.fullmatch(name) for kind in (_TRAIN, _TEST, _META))
                if not (wanted and member.isreg()):
                    continue
                content = archive.extractfile(member)
                if content is None or member.size > _MAX_MEMBER:
                    raise _wrong(path, f"{name} has {member.size:,} bytes")
                files[name] = unpickle(content.read(), f"{name} in {path}")
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        raise _wrong(path, f"it is damaged ({error})") from error
    return files


def _batch(
    path: Path, name: str, content: dict[Any, Any]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return a batch's pictures ``uint8[N, 32, 32, 3]`` and labels ``int64[N]``."""
    data, labels = content.get(b"data"), _first(content, _LABELS)
    if not (
        isinstance(data, _Array)
        and isinstance(labels, list)
        and all(type(label) is int and 0 <= label < 1000 for label in labels)
        and data.values().shape == (len(labels), math.prod(_SHAPE))
    ):
        raise _wrong(path, f"{name} lacks its pictures or their labels")
    planes = data.values().reshape(-1, *_SHAPE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.int64)


def _first(content: dict[Any, Any], keys: tuple[bytes, ...]) -> Any:
    return next((content[key] for key in keys if key in content), None)


def _wrong(path: Path, received: str) -> SourceError:
    return SourceError("an archive of CIFAR's batches", f"{path}: {received}", "Fetch it again.")


def unpickle(content: bytes, name: str) -> dict[Any, Any]:
    """Read a pickled dict, calling nothing that the pickle names.

    Args:
        content: The pickle; text of Python 2 becomes bytes.
        name: What to call it in an error.

    Raises:
        SourceError: It is damaged, or asks for anything but arrays of bytes.
    """
    try:
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except SourceError:
        raise
    # A broken pickle can fail in any of the ways that its instructions can.
    except Exception as error:
        raise SourceError(
            "a pickled dict of lists and arrays",
            f"{name} is none ({str(error) or type(error).__name__})",
            "Fetch it again.",
        ) from error
    if not isinstance(value, dict):
        raise SourceError(
            "a pickled dict", f"{name} holds a {type(value).__name__}", "Fetch it again."
        )
    return value


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise SourceError(
                "a pickle of plain values and arrays of bytes",
                f"this one asks for {module}.{name}",
                "Do not trust it.",
            )
        return stand_in


class _Array:
    """An array of bytes as NumPy pickles it: made empty, then given its state."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, by_columns, content = state
        if (
            not isinstance(kind, _Kind)
            or by_columns
            or not isinstance(content, bytes)
            or not all(type(side) is int and side >= 0 for side in shape)
        ):
            raise ValueError("it has an array of another kind, or of an impossible size")
        self._values = np.frombuffer(content, np.uint8).reshape(shape)

    def values(self) -> NDArray[np.uint8]:
        """Return the array itself."""
        return self._values


class _Kind:
    """NumPy's dtype of bytes, the only one there is here."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and the like: a byte has none."""


class _StandIn:
    """What a pickle gets in place of a function or class: an object that it cannot change."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *given: Any) -> Any:
        return self._make(*given)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise ValueError(f"it sets {name}")

    def __setstate__(self, state: Any) -> NoReturn:
        raise ValueError("it changes what it was given")


def _make_array(*_: Any) -> _Array:
    return _Array()


def _make_kind(name: Any, *_: Any) -> _Kind:
    if name not in ("u1", b"u1", "|u1", b"|u1", "uint8", b"uint8"):
        raise ValueError(f"it has an array of {name!r}")
    return _Kind()


def _make_bytes(text: str, encoding: Any = "latin1") -> bytes:
    """Do what pickles of Python 3 need to hold bytes in the old format."""
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"it has text in {encoding!r}")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _StandIn(_make_array),
    ("numpy._core.multiarray", "_reconstruct"): _StandIn(_make_array),
    ("numpy", "ndarray"): _StandIn(_make_array),
    ("numpy", "dtype"): _StandIn(_make_kind),
    ("_codecs", "encode"): _StandIn(_make_bytes),
}
