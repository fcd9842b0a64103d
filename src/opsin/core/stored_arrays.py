"""Arrays in untrusted ``.npz`` files.

A header of 359 bytes can claim 10^15 rows, and a megabyte can expand to a gigabyte: headers are
read first, and no more is allocated than the file can hold.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from numpy.lib import format as npy
from numpy.typing import NDArray

from opsin.core.files import open_regular

#: Most that a file may expand to: this many times its size, or this many bytes if more.
MAX_RATIO: Final = 20
SPARE: Final = 128 << 20
_MAX_MEMBERS: Final = 10_000
# NumPy's header reader is safe for short texts only; usual ones have about 100 bytes.
_MAX_HEADER: Final = 1_000
_MAX_DIMENSIONS: Final = 32


class Budget:
    """The bytes that may still be unpacked from a file of some size."""

    def __init__(self, packed: int) -> None:
        self._left = max(SPARE, MAX_RATIO * packed)

    def take(self, size: int) -> None:
        """Take some bytes, or raise `ValueError` if too few are left."""
        if size > self._left:
            raise ValueError(
                f"it expands to more than {MAX_RATIO} times its size and {SPARE >> 20} MB; if you "
                "trust it, save it unpacked"
            )
        self._left -= size


class Stated(NamedTuple):
    """An array's shape, and the bytes of all its values together, by its header."""

    shape: tuple[int, ...]
    nbytes: int


class StoredArrays:
    """The arrays of an ``.npz`` file, read one by one; a context manager."""

    def __init__(self, path: str | os.PathLike[str], *, follow_links: bool = True) -> None:
        self._file = open_regular(path, follow_links=follow_links)
        try:
            #: The remaining budget.
            self.budget = Budget(os.fstat(self._file.fileno()).st_size)
            with _explained():
                self._archive = zipfile.ZipFile(self._file)
                members = self._archive.infolist()
                #: What the archive says of each array, by its name.
                self.members = {member.filename.removesuffix(".npy"): member for member in members}
                if len(members) > _MAX_MEMBERS:
                    raise ValueError(f"it holds more than {_MAX_MEMBERS:,} arrays")
                if len(self.members) < len(members):
                    raise ValueError("it holds two arrays of one name")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> StoredArrays:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._file.close()

    def stated(self, name: str) -> Stated:
        """An array's header; its values are not read."""
        member = self.members[name]
        with _explained():
            # NumPy writes no others, and some of them use unbounded memory.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is packed in a way that NumPy does not write")
            with self._archive.open(member) as stream:
                return _read_header(stream, member)

    def read(self, name: str) -> NDArray[Any]:
        """An array; refused if it has Python objects or is too large for its file."""
        self.budget.take(self.stated(name).nbytes)
        with _explained(), self._archive.open(self.members[name]) as stream:
            array = npy.read_array(stream, allow_pickle=False, max_header_size=_MAX_HEADER)
            stream.read(1)  # the end, where the checksum is verified
            return array


def read_arrays(path: Path, *, follow_links: bool = True) -> dict[str, NDArray[Any]]:
    """All arrays of a file by their names; of a damaged one, a `ValueError`."""
    with StoredArrays(path, follow_links=follow_links) as stored:
        return {name: stored.read(name) for name in stored.members}


def _read_header(stream: IO[bytes], member: zipfile.ZipInfo) -> Stated:
    head = io.BytesIO(stream.read(_MAX_HEADER))
    refused = ValueError(f"{member.filename!r:.120} is no array of numbers or texts")
    try:
        version = npy.read_magic(head)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, _, dtype = read(head, max_header_size=_MAX_HEADER)
    except (ValueError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
        raise refused from error
    possible = len(shape) <= _MAX_DIMENSIONS and all(0 <= side < 1 << 62 for side in shape)
    if dtype.kind in "OV" or dtype.subdtype or not possible:
        raise refused
    stated = Stated(shape, math.prod(shape) * dtype.itemsize)
    if stated.nbytes != member.file_size - head.tell() or not dtype.itemsize:
        raise ValueError(f"{member.filename!r:.120} states another size than it has")
    return stated


@contextmanager
def _explained() -> Iterator[None]:
    """Turn all errors of a damaged archive into `ValueError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, KeyError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise ValueError(str(error) or type(error).__name__) from error
