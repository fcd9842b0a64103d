"""A skops file as plain data: objects with attributes, of which none is built.

The file is an archive: ``schema.json`` describes objects within objects, each by the names of its
class and module, and arrays lie beside it. The names are compared with known ones, and never looked
up; whatever stands for a function, a method or a call is refused, wherever in the file it stands.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from opsin.core.errors import ModelFileError
from opsin.core.files import open_regular
from opsin.importing.file_kind import read_member
from opsin.runtime.onnx_scan import printable, refused

_SCHEMA: Final = "schema.json"
_LARGEST_SCHEMA: Final = 48 << 20
_LARGEST_ARRAY: Final = 4 << 30
_LONGEST: Final = 10_000
_DEEPEST: Final = 100
_MEMBER: Final = re.compile(r"[\w-]{1,100}\.(npy|npz|bin)")
# Kinds of nodes. Others stand for functions, methods and calls of them.
_REDUCED: Final = frozenset(("TreeNode", "LossNode"))
_VALUES: Final = (
    "Object Dict DefaultDict List Tuple Set Slice NdArray MaskedArray SparseMatrix Json Type DType "
    "RandomState RandomGenerator Bytes Bytearray"
)
_LOADERS: Final = _REDUCED.union(f"{kind}Node" for kind in _VALUES.split())
# Modules of fitted estimators; classes from elsewhere are somebody's code.
_KNOWN: Final = re.compile(r"(sklearn|numpy|scipy)(\.\w+)*|collections|_loss")
_BUILT_IN: Final = frozenset((
    "str", "int", "float", "bool", "complex", "NoneType", "list", "dict", "tuple", "set",
    "frozenset", "slice", "bytes", "bytearray", "type", "object",
))  # fmt: skip
# No advice to export to ONNX: the operators that scikit-learn is exported to are not read.
_READ: Final = (
    "Save another estimator: LogisticRegression, RandomForestClassifier, ExtraTreesClassifier, "
    "KNeighborsClassifier of uniform weights, or SVC of the kernel rbf or linear."
)
# Errors of hostile files; NotImplementedError is one of RuntimeError.
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError, LookupError),
    *(TypeError, ValueError, AttributeError, RuntimeError),
)
#: Numbers beyond it are none in single precision.
LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SkopsFile:
    """A file of skops that is open."""

    name: str
    archive: zipfile.ZipFile
    read: set[str] = field(default_factory=set)

    def array(self, member: object) -> NDArray[Any]:
        """Return an array that lies beside the schema."""
        # One array in many places would be far more than the file is long.
        if not isinstance(member, str) or not _MEMBER.fullmatch(member):
            raise refused(self.name, f"its array {printable(member)} lies elsewhere")
        if member in self.read:
            raise refused(self.name, f"its array {printable(member)} is in two places")
        self.read.add(member)
        try:
            return _array(read_member(self.archive, self.name, member, _LARGEST_ARRAY))
        except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError) as error:
            reason = f"its array {printable(member)} is none of plain values ({printable(error)})"
            raise refused(self.name, reason) from error


def _array(content: bytes) -> NDArray[Any]:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError("of an unknown version")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how old the file is
        shape, by_columns, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("objects, which would have to be unpickled")
    start = stream.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError("another size than it states")
    values = np.frombuffer(content, dtype, offset=start)
    return values.reshape(shape, order="F" if by_columns else "C")


@dataclass(frozen=True)
class SkopsObject:
    """An object in a skops file: its class by name, and its attributes."""

    file: SkopsFile
    node: Mapping[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        """Name of its class, fit for a message."""
        return printable(self.node["__class__"])

    def refusal(self, reason: str, advice: str = "") -> ModelFileError:
        """Return the error for a malformed object."""
        return refused(self.file.name, f"its {self.kind} {reason}", advice or _READ)

    def _fault(self, name: str, reason: str) -> ModelFileError:
        return refused(self.file.name, f"{name} of its {self.kind} {reason}", _READ)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Its attributes, as the file has them."""
        content = self.node.get("content")
        if not isinstance(content, dict) or content.get("__loader__") != "DictNode":
            raise self.refusal("has no attributes")
        attributes: Mapping[str, Any] = content["content"]
        return attributes

    def __contains__(self, name: str) -> bool:
        return name in self.attributes

    def object(self, name: str) -> SkopsObject:
        """Return an attribute."""
        if name not in self.attributes:
            advice = "Fit it before it is saved."
            raise self.refusal(f"has no {name}, so it is not fitted", advice)
        return SkopsObject(self.file, self.attributes[name])

    @property
    def listed(self) -> list[SkopsObject]:
        """The items of a list or a tuple."""
        if self.node["__loader__"] not in ("ListNode", "TupleNode"):
            raise self.refusal("stands in the place of a list")
        return [SkopsObject(self.file, item) for item in self.node["content"]]

    @property
    def value(self) -> Any:
        """Its text, number, boolean or ``None``."""
        loader, content = self.node["__loader__"], self.node.get("content")
        if loader == "NdArrayNode":
            values = self.file.array(self.node.get("file"))
            if values.shape == () and values.dtype.kind in "biufU":
                return values.item()
        elif loader == "JsonNode" and isinstance(content, str) and len(content) <= _LONGEST:
            value = json.loads(content)
            if value is None or isinstance(value, str | int | float):
                return value
        raise self.refusal("stands in the place of a number or a text")

    def whole(self, name: str, least: int, most: int) -> int:
        """Return an attribute that is a whole number within bounds."""
        value = self.object(name).value
        if type(value) is not int or not least <= value <= most:
            raise self._fault(name, f"is {printable(value)}")
        return value

    def number(self, name: str) -> float:
        """Return an attribute that is a finite number."""
        value = self.object(name).value
        if not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise self._fault(name, f"is {printable(value)}")
        return float(value)

    def numbers(self, name: str, *shape: int | None) -> NDArray[np.float64]:
        """Return an array of finite numbers; ``None`` in its shape is any length but 0."""
        stored = self.object(name).node
        if stored.get("__loader__") != "NdArrayNode" or stored.get("type") != "numpy":
            raise self._fault(name, "is no array of numbers")
        values = self.file.array(stored.get("file"))
        if values.dtype.kind not in "biuf":
            raise self._fault(name, "holds no numbers")
        pairs = zip(values.shape, shape, strict=False)
        fits = all(size == wanted or (wanted is None and size) for size, wanted in pairs)
        if len(shape) != values.ndim or not fits:
            has = "×".join(map(str, values.shape)) or "one number"
            needed = "×".join("any" if length is None else str(length) for length in shape)
            raise self._fault(name, f"has the shape {has}, not {needed}")
        checked = values.astype(np.float64)
        # Not beyond single precision either, in which it will be computed.
        if not (np.abs(checked) <= LARGEST).all():
            raise self._fault(name, "holds values that are no numbers")
        return checked

    def records(self, name: str, **kinds: str) -> dict[str, NDArray[Any]]:
        """Return columns of a table, by the kinds of numbers that each may hold."""
        values = self.file.array(self.object(name).node.get("file"))
        columns = values.dtype.fields
        if values.ndim != 1 or columns is None or not len(values):
            raise self._fault(name, "is no table")
        table = {}
        for column, allowed in kinds.items():
            inner = columns[column][0] if column in columns else None
            if inner is None or inner.kind not in allowed or inner.shape:
                raise self._fault(name, f"has no numbers {column}")
            table[column] = values[column].astype(np.float64 if inner.kind == "f" else np.int64)
        return table

    def values(self, name: str) -> list[Any]:
        """Return the values of a row of texts or numbers."""
        stored = self.object(name).node
        if stored.get("type") == "json":  # as Python's objects, which text often is
            return [SkopsObject(self.file, item).value for item in stored["content"]]
        array = self.file.array(stored.get("file"))
        if array.ndim != 1 or array.dtype.kind not in "biufU":
            raise self._fault(name, "is no row of values")
        return list(array.tolist())


@contextlib.contextmanager
def open_skops(path: Path) -> Iterator[SkopsObject]:
    """Open a file of skops for the time of a block, and yield the object in it."""
    name = path.name
    with open_regular(path) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                for member in archive.namelist():
                    if member != _SCHEMA and not _MEMBER.fullmatch(member):
                        reason = f"it holds {printable(member)}, which is no part of one"
                        raise refused(name, reason)
                schema = json.loads(read_member(archive, name, _SCHEMA, _LARGEST_SCHEMA))
                _check(name, schema)
                yield SkopsObject(SkopsFile(name, archive), schema)
        except _BROKEN as error:
            reason = f"it is not as skops writes it ({printable(error) or type(error).__name__})"
            advice = "Save it again: skops.io.dump(model, 'NAME.skops')."
            raise refused(name, reason, advice) from error


def _check(file: str, schema: Any) -> None:
    """Refuse a file with anything but values, and objects of known libraries, anywhere in it."""
    if not isinstance(schema, dict):
        raise TypeError("a schema that is no object")
    waiting: list[tuple[Any, tuple[int | None, ...]]] = [(schema, ())]
    while waiting:
        value, within = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, within) for item in value)
        if not isinstance(value, dict):
            continue
        if "__class__" in value or "__loader__" in value:
            _check_node(file, value)
            identity = value.get("__id__")
            if (identity is not None and identity in within) or len(within) > _DEEPEST:
                raise refused(file, f"its {printable(value['__class__'])} holds itself")
            within = (*within, identity)
        waiting.extend((item, within) for item in value.values() if isinstance(item, dict | list))


def _check_node(file: str, node: Mapping[str, Any]) -> None:
    module, kind, loader = node.get("__module__"), node.get("__class__"), node.get("__loader__")
    if not isinstance(module, str) or not isinstance(kind, str) or not isinstance(loader, str):
        raise refused(file, "it holds an object without the name of its class")
    full = f"{module}.{kind}"
    known = kind in _BUILT_IN if module == "builtins" else bool(_KNOWN.fullmatch(module))
    if not known or not re.fullmatch(r"\w{1,100}", kind):
        reason = f"{printable(full)} in it is no part of scikit-learn, but a program of somebody's"
        raise refused(file, reason, "Save an estimator of scikit-learn's own.")
    called = "__reduce__" in node and loader not in _REDUCED
    if loader not in _LOADERS or called:
        what = "a call" if called else printable(loader.removesuffix("Node"))
        reason = f"{printable(full)} in it is a program ({what}), which is never run"
        raise refused(file, reason, "Save an estimator that is given no functions.")
