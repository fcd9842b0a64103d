"""Arrays in ``.npz`` files that a stranger may have written.

A header of 359 bytes can state 10^15 rows, and a megabyte can expand to a gigabyte. So headers are
read first, no more is made than the file can hold, and only the arrays that are asked for.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from opsin.core.regular_file import open_regular

#: What a packed file may expand to: this many times its own size, or this many bytes if more.
MAX_RATIO: Final = 20
SPARE: Final = 128 << 20
_MAX_MEMBERS: Final = 10_000
# Bytes of the longest header: NumPy's own limit.
_MAX_HEADER: Final = 10_000
_MAX_DIMENSIONS: Final = 32
_CHUNK: Final = 1 << 20
_MAGIC: Final = b"\x93NUMPY"
# Bytes of the number that says how long a header is, by the format's version.
_LENGTHS: Final = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
# A header is a Python dictionary in text. It is not evaluated: these are the three keys, in any
# order, with the types that arrays of numbers and texts have. Blanks are never given back, which
# would take a time that grows with the square of their number.
_FIELD: Final = r"\s*+'(\w{1,20})'\s*+:\s*+('[^']{0,40}'|True|False|\([\dL,\s]*+\))\s*+"
_HEADER: Final = re.compile(rf"\{{{_FIELD},{_FIELD},{_FIELD},?\s*+\}}\s*+")
_KIND: Final = re.compile(
    r"'[<>|=]?[?bBhHiIlLqQuefdgcFDGSUVmM]\d{0,10}(\[\d{0,9}[a-zA-Z]{1,4}\])?'"
)
_NUMBER: Final = re.compile(r"\d+")


class Budget:
    """What may still be made of a file.

    Args:
        packed: The file's size in bytes.
    """

    def __init__(self, packed: int) -> None:
        self._left = max(SPARE, MAX_RATIO * packed)

    def take(self, size: int) -> None:
        """Take some bytes of it.

        Raises:
            ValueError: There are not as many left.
        """
        if size > self._left:
            raise ValueError(
                f"it expands to more than {MAX_RATIO} times its size and {SPARE >> 20} MB; if you "
                "trust it, save it unpacked"
            )
        self._left -= size


@dataclass(frozen=True)
class Stated:
    """What an array's header says.

    Args:
        shape: Its shape.
        dtype: Of its values.
        by_columns: Whether the first axis runs fastest (Fortran's order).
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool

    @property
    def nbytes(self) -> int:
        """Bytes of all values together."""
        return math.prod(self.shape) * self.dtype.itemsize


class StoredArrays:
    """The arrays of a ``.npz`` file, read one by one; a context manager.

    Args:
        path: The file.
        follow_links: Whether the name itself may be a symbolic link.

    Raises:
        OSError: It cannot be opened, or is no regular file.
        ValueError: It is damaged, or no ``.npz`` file.

    Example:
        >>> import tempfile
        >>> file = tempfile.mkdtemp() + "/a.npz"
        >>> np.savez(file, a=np.arange(3), b=np.zeros((2, 2)))
        >>> with StoredArrays(file) as arrays:
        ...     arrays.names, arrays.stated("b").shape, arrays.read("a").tolist()
        (['a', 'b'], (2, 2), [0, 1, 2])
    """

    def __init__(self, path: str | os.PathLike[str], *, follow_links: bool = True) -> None:
        self._file = open_regular(path, follow_links=follow_links)
        try:
            #: What may still be read.
            self.budget = Budget(os.fstat(self._file.fileno()).st_size)
            with _explained():
                self._archive = zipfile.ZipFile(self._file)
                self._members = self._by_name(self._archive.infolist())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> StoredArrays:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._file.close()

    @staticmethod
    def _by_name(members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        found = {member.filename.removesuffix(".npy"): member for member in members}
        if len(members) > _MAX_MEMBERS:
            raise ValueError(f"it holds more than {_MAX_MEMBERS:,} arrays")
        if len(found) < len(members):
            raise ValueError("it holds two arrays of one name")
        return found

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def stated(self, name: str) -> Stated:
        """Return what an array's header says, its values unread.

        Raises:
            KeyError: There is no such array.
            ValueError: The header is damaged, or says what cannot be.
        """
        with _explained(), self._open(name) as stream:
            return _read_header(stream, self._members[name])

    def read(self, name: str) -> NDArray[Any]:
        """Return an array.

        Raises:
            KeyError: There is no such array.
            ValueError: It is damaged, holds Python objects, or is too large for its file.
        """
        with _explained(), self._open(name) as stream:
            stated = _read_header(stream, self._members[name])
            self.budget.take(stated.nbytes)
            content = np.empty(stated.nbytes, np.uint8)
            _fill(stream, content)
            stream.read(1)  # the end, where the checksum is looked at
            order: Any = "F" if stated.by_columns else "C"
            return np.ndarray(stated.shape, stated.dtype, content.data, order=order)

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        """Yield an array's rows in chunks, holding one chunk in memory.

        Args:
            name: Of the array, which is no single number.
            rows: How many at a time; the last block may have fewer.

        Raises:
            KeyError: There is no such array.
            ValueError: It is damaged; blocks before the damage have been yielded.
        """
        with _explained(), self._open(name) as stream:
            stated = _read_header(stream, self._members[name])
            if stated.by_columns or not stated.shape:
                raise ValueError(f"{name} has no rows that lie one after the other")
            for start in range(0, stated.shape[0], rows):
                count = min(rows, stated.shape[0] - start)
                block = np.empty((count, *stated.shape[1:]), stated.dtype)
                _fill(stream, block.reshape(-1).view(np.uint8))
                yield block
            stream.read(1)  # the end, where the checksum is looked at

    def _open(self, name: str) -> IO[bytes]:
        member = self._members[name]
        # NumPy writes no others, and some of those take memory as they like.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is packed in a way that NumPy does not write")
        return self._archive.open(member)


def _read_header(stream: IO[bytes], member: zipfile.ZipInfo) -> Stated:
    start = stream.read(8)
    length = _LENGTHS.get((start[6], start[7])) if len(start) == 8 else None
    if start[:6] != _MAGIC or length is None:
        raise ValueError(f"{member.filename!r:.120} is no array")
    size = int.from_bytes(stream.read(length), "little")
    text = _HEADER.fullmatch(stream.read(min(size, _MAX_HEADER)).decode("latin-1"))
    found = dict(zip(text.groups()[::2], text.groups()[1::2], strict=True)) if text else {}
    kind, order, sides = (found.get(key, "") for key in ("descr", "fortran_order", "shape"))
    known = _KIND.fullmatch(kind) and order in ("True", "False") and sides.startswith("(")
    if not known or sides.count(",") > _MAX_DIMENSIONS:
        raise ValueError(f"{member.filename!r:.120} is no array of numbers or texts")
    shape = tuple(int(side) for side in _NUMBER.findall(sides))
    stated = Stated(shape, np.dtype(kind[1:-1]), order == "True")
    if stated.nbytes != member.file_size - len(start) - length - size or not stated.dtype.itemsize:
        raise ValueError(f"{member.filename!r:.120} states another size than it has")
    return stated


def _fill(stream: IO[bytes], target: NDArray[np.uint8]) -> None:
    place, whole = 0, target.data
    while place < len(whole):
        got = cast(io.BufferedIOBase, stream).readinto(whole[place : place + _CHUNK])
        if not got:
            raise EOFError("it is cut short")
        place += got


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the many ways in which a damaged file fails into one."""
    try:
        yield
    except KeyError:
        raise
    # An archive can be wrong in any of the ways that its parts can.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(str(error) or type(error).__name__) from error
