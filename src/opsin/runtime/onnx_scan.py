"""A scan of an ONNX file's bytes, before anything computes with it.

Walking the encoding (https://protobuf.dev/programming-guides/encoding/) takes no ONNX library, no
recursion and no memory, so that it can be done with any file.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, Final

from opsin.core.errors import ModelFileError

#: Bytes of all the properties of a file together.
MAX_PROPERTIES: Final = 16 << 20
_MAX_FIELDS: Final = 2_000_000
# Of a backbone's 5,000, computed for three views, and what stands around them.
_MAX_OPERATORS: Final = 16_000
_TREES: Final = "ai.onnx.ml"
# Oldest and newest version of each domain of operators that is let in. ONNX Runtime knows which
# of them it can compute; the bounds only keep numbers from being absurd.
_NEWEST: Final = 99
_DOMAINS: Final = {"": (7, _NEWEST), "ai.onnx": (7, _NEWEST), _TREES: (1, _NEWEST)}

# What decides by the values of an image how much memory or time is taken, or gives another answer
# each time, cannot be tried out beforehand. Opsin writes none of it.
_UNBOUNDED: Final = {
    "Bernoulli", "Compress", "ConcatFromSequence", "If", "ImageDecoder", "Loop", "Multinomial",
    "NonMaxSuppression", "NonZero", "Optional", "OptionalGetElement", "OptionalHasElement",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "RegexFullMatch",
    "Scan", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase",
    "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence", "StringConcat",
    "StringNormalizer", "StringSplit", "TfIdfVectorizer", "Unique",
}  # fmt: skip
# Operators with inputs that say how large a result is, from which one on: these must be constant.
_SIZED: Final = {
    "AffineGrid": 1, "BlackmanWindow": 0, "CenterCropPad": 1, "Col2Im": 1, "ConstantOfShape": 0,
    "DFT": 1, "Expand": 1, "HammingWindow": 0, "HannWindow": 0, "MaxUnpool": 2,
    "MelWeightMatrix": 0, "OneHot": 1, "Pad": 1, "Range": 0, "Reshape": 1, "Resize": 1,
    "STFT": 1, "Slice": 1, "Split": 1, "Tile": 1, "TopK": 1, "Upsample": 1,
}  # fmt: skip
_ONLY_TREES: Final = frozenset(("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"))

_VARINT, _WIDE, _BYTES, _NARROW = 0, 1, 2, 5
_ENDED: Final = "it is no readable ONNX file"


def scan(content: bytes, name: str) -> None:
    """Check that an ONNX file is whole, self-contained and of bounded work."""
    try:
        _Scan(content).model()
    except _Refused as error:
        raise unreadable(name, str(error)) from None
    except (IndexError, UnicodeDecodeError, TypeError) as error:
        raise unreadable(name, _ENDED) from error


def unreadable(name: str, reason: str) -> ModelFileError:
    """Return the error of a file that is no classifier."""
    return ModelFileError(
        f"{name} is no classifier that Opsin wrote: {reason}",
        "Give a run directory, or the classifier.onnx inside one.",
    )


def refused(name: str, reason: str, advice: str = "") -> ModelFileError:
    """Return the error of another program's file that cannot be used."""
    advice = advice or "Give another file; where its own program can, export it to ONNX."
    return ModelFileError(f"{name} cannot be used: {reason}", advice)


class _Refused(Exception):  # noqa: N818  it becomes an error
    """The reason to refuse a file."""


class _Scan:
    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._left = _MAX_FIELDS
        self._properties = 0
        self._constant: set[str] = set()

    def model(self) -> None:
        graph: list[tuple[int, Any]] = []
        for number, value in self._fields(self._content):
            if number == 7:
                # A field that comes twice is one, joined.
                graph += self._fields(value)
            elif number == 8:
                parts = dict(self._fields(value))
                version = parts.get(2, 0)
                oldest, newest = _DOMAINS.get(_text(parts.get(1, b"")), (0, _NEWEST))
                if not oldest <= version <= newest:
                    raise _Refused(f"it wants version {version} of the operators")
            elif number == 14:
                self._properties += len(value)
            elif number in (20, 25):
                raise _Refused("it holds functions or a training of its own")
        if self._properties > MAX_PROPERTIES:
            raise _Refused(f"its properties take more than {MAX_PROPERTIES >> 20} MB")
        if not graph:
            raise _Refused("it holds no network")
        self._graph(graph)

    def _graph(self, parts: list[tuple[int, Any]]) -> None:
        if (count := sum(number == 1 for number, _ in parts)) > _MAX_OPERATORS:
            raise _Refused(f"it has {count:,} operators, and up to {_MAX_OPERATORS:,} are read")
        for number, value in parts:
            if number == 5:
                self._constant.add(self._tensor(value))
            elif number == 15:
                raise _Refused("it holds sparse weights")
        # A weight of the same name as an input is only what that one is by default.
        self._constant -= {
            _text(dict(self._fields(value)).get(1, b"")) for number, value in parts if number == 11
        }
        for number, value in parts:
            if number == 1:
                self._node(value)

    def _node(self, node: memoryview) -> None:
        inputs, outputs, kind, domain = [], [], "", ""
        for number, value in self._fields(node):
            match number:
                case 1:
                    inputs.append(_text(value))
                case 2:
                    outputs.append(_text(value))
                case 4:
                    kind = _text(value)
                case 5:
                    self._attribute(value)
                case 7:
                    domain = _text(value)
        known = kind in _ONLY_TREES if domain == _TREES else domain in _DOMAINS
        if not known:
            raise _Refused(f"it needs the operator {printable(domain)}.{printable(kind)}")
        if kind in _UNBOUNDED:
            raise _Refused(f"what its operator {kind} takes depends on the image")
        if kind == "Constant":
            self._constant.update(outputs)
        first = _SIZED.get(kind)
        if first is not None and not self._constant.issuperset(filter(None, inputs[first:])):
            raise _Refused(f"how much its operator {kind} makes is no constant")

    def _attribute(self, attribute: memoryview) -> None:
        for number, value in self._fields(attribute):
            if number in (5, 10):
                self._tensor(value)
            elif number in (6, 11):
                raise _Refused("it holds loops or branches")
            elif number in (14, 15, 21, 22, 23):
                raise _Refused("it holds what is no number, tensor or text")

    def _tensor(self, tensor: memoryview) -> str:
        name = ""
        for number, value in self._fields(tensor):
            if number == 8:
                name = _text(value)
            elif number == 13 or (number == 14 and value):
                raise _Refused("some of its data lies outside the file")
        return name

    def _fields(self, part: memoryview) -> Iterator[tuple[int, Any]]:
        """Yield number and value of each field: a whole number, or a view of bytes."""
        position, end = 0, len(part)
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise _Refused(f"it holds more than {_MAX_FIELDS:,} parts")
            tag, position = _varint(part, position)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                value, position = _varint(part, position)
                yield number, value
            elif kind == _BYTES:
                size, position = _varint(part, position)
                if size > end - position:
                    raise IndexError
                yield number, part[position : position + size]
                position += size
            elif kind in (_WIDE, _NARROW):
                position += 8 if kind == _WIDE else 4
                if position > end:
                    raise IndexError
            else:
                raise _Refused(_ENDED)
            # Trees hold millions of numbers and words, each a field of its own.
            if tag in _LISTS and (run := _run_of(tag).match(part, position)):
                position = run.end()


# Tags of an attribute's numbers and words; of a tensor's, where the same ones occur, likewise.
_LISTS: Final = {
    7 << 3 | _NARROW: rb".{4}",
    8 << 3 | _VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]",
    9 << 3 | _BYTES: rb"(?:\x04LEAF|\x0aBRANCH_LEQ)",
}


@functools.cache
def _run_of(tag: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?:" + re.escape(bytes([tag])) + _LISTS[tag] + rb")*+", re.DOTALL)


def _varint(part: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = part[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise _Refused(_ENDED)


def _text(value: memoryview | bytes) -> str:
    return bytes(value).decode("utf-8")


def printable(text: object) -> str:
    """Return a stranger's text, or an error that quotes it, fit for a message."""
    words = " ".join(str(text)[:2000].split())[:200]
    return "".join(sign if sign.isprintable() else "?" for sign in words)
