"""Images that were listed, kept on the disk: any number of them in the same memory."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import weakref
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final

from opsin.core.errors import ImageError
from opsin.core.storage import storage_errors
from opsin.data.image_stream import Unlabelled
from opsin.stores.store_address import StoredObject

# Images that are packed together.
_BLOCK: Final = 4096


class ListedImages:
    """A list of images in a file without a name, which is gone with the list."""

    def __init__(self) -> None:
        self._place = Path(tempfile.gettempdir()) / "a list of images"
        with storage_errors(self._place):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed with the list
        weakref.finalize(self, self._file.close)
        self._ends = array("Q", [0])
        self._last: list[object] = []
        self._one_at_a_time = threading.Lock()

    def add(self, image: Unlabelled) -> None:
        """Add the next image: a file, an object of a store, or one that cannot be read."""
        where = astuple(image.image) if isinstance(image.image, StoredObject) else image.image
        path = "" if image.path == image.image else image.path
        problem = None if image.problem is None else image.problem.args
        self._last.append((image.name, where, path, problem))
        if len(self._last) == _BLOCK:
            packed = zlib.compress(json.dumps(self._last).encode(), 1)
            with storage_errors(self._place):
                self._file.write(packed)
            self._ends.append(self._ends[-1] + len(packed))
            self._last = []

    def rows(self, rows: range) -> Iterator[Unlabelled]:
        """Yield some images, one at a time."""
        for number in range(rows.start // _BLOCK, -(-rows.stop // _BLOCK)):
            start = number * _BLOCK
            for name, where, path, problem in self._block(number)[
                max(0, rows.start - start) : rows.stop - start
            ]:
                yield Unlabelled(
                    name,
                    where if isinstance(where, str) else StoredObject(*where),
                    where if path == "" else path,
                    None if problem is None else ImageError(*problem),
                )

    def _block(self, number: int) -> Any:
        """Return name, place, path and problem of each image of a block."""
        if number + 1 < len(self._ends):
            with self._one_at_a_time, storage_errors(self._place):
                self._file.seek(self._ends[number])
                packed = self._file.read(self._ends[number + 1] - self._ends[number])
                self._file.seek(0, os.SEEK_END)
            return json.loads(zlib.decompress(packed))
        return json.loads(json.dumps(self._last))
