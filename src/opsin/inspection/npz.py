"""Arrays larger than the memory, in one .npz file.

A ZIP archive whose members are stored, not packed, has every byte's place known as soon as the
shapes are. So all members are written at once, each block at its place, in one pass over the
images; the disk holds the file and nothing beside it. (A temporary file a layer, joined at the
end, would need twice the room and write everything twice; a pass a layer would run the network
once for each.) The format is that of PKWARE's APPNOTE 6.3, ZIP64 throughout.
"""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import StorageError
from opsin.core.format import file_size
from opsin.core.storage import atomic_file, storage_errors

_VERSION: Final = 45  # the first that knows ZIP64
_UTF8_NAME: Final = 1 << 11
_STORED: Final = 0
# The first day that the format knows, so that the same numbers give the same bytes.
_TIME: Final = 0
_DATE: Final = 1 << 5 | 1
_ELSEWHERE: Final = 0xFFFFFFFF  # the true number stands in the ZIP64 field


@dataclass(frozen=True)
class ArrayPlan:
    """An array that will be written.

    Args:
        shape: All of it, rows first.
        dtype: Of its numbers or texts.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def header(self) -> bytes:
        """Return what stands before the numbers in a ``.npy`` file."""
        stream = io.BytesIO()
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, header)
        return stream.getvalue()

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers alone."""
        return math.prod(self.shape) * self.dtype.itemsize


class _Member:
    """One array's place in the file, and how far it is written."""

    def __init__(self, name: str, plan: ArrayPlan, start: int) -> None:
        self.name = f"{name}.npy".encode()
        self.plan = plan
        self.start = start
        self.head = plan.header()
        self.size = len(self.head) + plan.nbytes
        self.body = start + len(self.local_header())
        self.end = self.body + self.size
        self.crc = zlib.crc32(self.head)
        self.written = len(self.head)

    def local_header(self, crc: int = 0) -> bytes:
        """Return what stands before the member."""
        sizes = struct.pack("<HHQQ", 1, 16, self.size, self.size)
        fields = (_VERSION, _UTF8_NAME, _STORED, _TIME, _DATE, crc, _ELSEWHERE, _ELSEWHERE)
        lengths = (len(self.name), len(sizes))
        return struct.pack("<4s5H3L2H", b"PK\3\4", *fields, *lengths) + self.name + sizes

    def entry(self) -> bytes:
        """Return its line in the directory at the file's end."""
        where = struct.pack("<HHQQQ", 1, 24, self.size, self.size, self.start)
        fields = (_VERSION, _VERSION, _UTF8_NAME, _STORED, _TIME, _DATE)
        sizes = (self.crc, _ELSEWHERE, _ELSEWHERE)
        lengths = (len(self.name), len(where), 0, 0, 0)
        packed = struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", *fields, *sizes, *lengths, 0o644 << 16, _ELSEWHERE
        )
        return packed + self.name + where


class NpzWriter:
    """Writes the blocks of several arrays, each in its order, in turns as they come.

    Args:
        stream: An empty file that can be written anywhere.
        plans: The arrays by name.
    """

    def __init__(self, stream: BinaryIO, plans: Mapping[str, ArrayPlan]) -> None:
        self._stream = stream
        self._members: dict[str, _Member] = {}
        start = 0
        for name, plan in plans.items():
            member = self._members[name] = _Member(name, plan, start)
            start = member.end
            stream.seek(member.body)
            stream.write(member.head)
        self._directory = start

    @property
    def nbytes(self) -> int:
        """Bytes of the finished file."""
        entries = sum(len(member.entry()) for member in self._members.values())
        return self._directory + entries + len(self._end(0))

    def write(self, name: str, block: NDArray[Any]) -> None:
        """Append rows to an array.

        Args:
            name: Of the array.
            block: Its next rows, ``[n, …]``.

        Raises:
            ValueError: They do not fit what was planned.
        """
        member = self._members[name]
        plan = member.plan
        content = np.ascontiguousarray(block, plan.dtype)
        if content.shape[1:] != plan.shape[1:] or member.written + content.nbytes > member.size:
            raise ValueError(
                f"{name} was planned as {plan.shape}; a block of {content.shape} does not fit"
            )
        raw = content.reshape(-1).view(np.uint8).data
        self._stream.seek(member.body + member.written)
        self._stream.write(raw)
        member.crc = zlib.crc32(raw, member.crc)
        member.written += content.nbytes

    def finish(self) -> None:
        """Write what makes the file a ZIP archive.

        Raises:
            ValueError: An array is not whole.
        """
        for member in self._members.values():
            if member.written != member.size:
                raise ValueError(
                    f"{member.name.decode()} has {member.written} of {member.size} bytes"
                )
            self._stream.seek(member.start)
            self._stream.write(member.local_header(member.crc))
        entries = b"".join(member.entry() for member in self._members.values())
        self._stream.seek(self._directory)
        self._stream.write(entries + self._end(len(entries)))

    def _end(self, entries: int) -> bytes:
        count, start = len(self._members), self._directory
        large = struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, _VERSION, _VERSION, 0, 0, count, count, entries, start
        )
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + entries, 1)
        small = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, _ELSEWHERE, _ELSEWHERE, 0)
        return large + locator + small


@contextlib.contextmanager
def open_npz(path: Path, plans: Mapping[str, ArrayPlan]) -> Iterator[NpzWriter]:
    """Yield a writer for a ``.npz`` file that is whole when the block ends, or not there at all.

    ``numpy.load`` reads it; so does anything that knows ZIP64 and ``.npy``.

    Args:
        path: The file; it replaces another of that name once it is whole.
        plans: The arrays by name, with their shapes.

    Raises:
        StorageError: The disk has too little room, or refuses a write.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "a.npz")
        >>> with open_npz(file, {"a": ArrayPlan((3,), np.dtype(np.float32))}) as writer:
        ...     writer.write("a", np.ones(2))
        ...     writer.write("a", np.zeros(1))
        >>> np.load(file)["a"].tolist()
        [1.0, 1.0, 0.0]
    """
    with atomic_file(path) as temporary, temporary.open("r+b") as stream:
        writer = NpzWriter(stream, plans)
        free = shutil.disk_usage(temporary.parent).free
        if writer.nbytes > free:
            raise StorageError(
                f"{file_size(writer.nbytes)} of free disk space for {path}",
                f"there are {file_size(free)}",
                "Choose fewer layers or images, or a place on another disk.",
            )
        yield writer
        with storage_errors(path):
            writer.finish()
