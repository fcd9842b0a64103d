"""Features of images in one ``.npz`` file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.transfer import add_array
from opsin.core.storage import atomic_file, scratch_directory, storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data.split import UNASSIGNED

# Names of the parts of a split, by their codes.
_PARTS: Final = ("", "train", "val", "test")
# Bytes of features per block, and other facts about an image.
_BLOCK: Final = 1 << 22
_FACTS: Final = np.dtype([("label", "<i8"), ("part", "u1"), ("digest", "u1", (32,))])


class FeatureRows:
    """Rows buffered on the disk until `finish` writes the file."""

    def __init__(self, out: Path, units: int) -> None:
        self._out, self._units = out, units
        self._stack = ExitStack()
        #: Number of rows.
        self.count = 0
        self._longest = 1
        self._parted = False
        self._step = max(1, _BLOCK // (4 * units))

    def __enter__(self) -> FeatureRows:
        folder = self._stack.enter_context(scratch_directory(self._out.parent))

        def opened(name: str) -> IO[bytes]:
            return self._stack.enter_context((folder / name).open("w+b"))

        with storage_errors(self._out):
            self._names, self._facts, self._features = map(opened, ("names", "facts", "features"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(
        self, name: str, label: int, part: int, digest: bytes, features: NDArray[np.float32]
    ) -> None:
        """Add an image: label (-1: none), part of the split, and SHA-256 of its pixels."""
        with storage_errors(self._out):
            self._names.write(json.dumps(name).encode() + b"\n")
            facts = np.array((label, part, np.frombuffer(digest, np.uint8)), _FACTS)
            self._facts.write(facts.tobytes())
            self._features.write(features.tobytes())
        self.count += 1
        self._longest = max(self._longest, len(name))
        self._parted = self._parted or part != UNASSIGNED

    def finish(self, about: JsonObject, classes: tuple[str, ...] | None) -> None:
        """Write the file."""
        kind = np.dtype([("features", "<f4", (self._units,))])
        with (
            storage_errors(self._out),
            atomic_file(self._out) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
        ):

            def add(name: str, blocks: Iterator[NDArray[Any]]) -> None:
                add_array(archive, name, blocks, self.count)

            def facts(name: str) -> Iterator[NDArray[Any]]:
                return (block[name] for block in self._blocks(self._facts, _FACTS))

            add_array(archive, "about", [np.array(json.dumps(about, ensure_ascii=True))])
            add("features", (block["features"] for block in self._blocks(self._features, kind)))
            add("names", self._blocks_of_names())
            add("digests", facts("digest"))
            if self._parted:
                add("parts", (np.array(_PARTS)[codes] for codes in facts("part")))
            if classes is not None:
                add("labels", facts("label"))
                add_array(archive, "classes", [np.array(classes)])

    def _blocks(self, file: IO[bytes], kind: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Yield the rows of a file in blocks, at least an empty one."""
        file.seek(0)
        for _ in range(0, max(1, self.count), self._step):
            yield np.frombuffer(file.read(kind.itemsize * self._step), kind)

    def _blocks_of_names(self) -> Iterator[NDArray[Any]]:
        self._names.seek(0)
        for start in range(0, max(1, self.count), self._step):
            count = min(self._step, self.count - start)
            names = [json.loads(self._names.readline()) for _ in range(count)]
            yield np.array(names, f"U{self._longest}")
