"""Features of images in one ``.npz`` or ``.parquet`` file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.arrays_file import add_array
from opsin.commands.predict.rows import load_pyarrow
from opsin.core.errors import RecipeError, StorageError
from opsin.core.storage import atomic_file, check_writable, scratch_directory, storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data.split import UNASSIGNED

#: Endings of the files that features can be written into.
FORMS: Final = (".npz", ".parquet")
#: Names of the parts of a split, by their codes.
PARTS: Final = ("", "train", "val", "test")
# Bytes of features that are held at once.
_BLOCK: Final = 1 << 22


@dataclass(frozen=True)
class FeatureRow:
    """One image.

    Args:
        name: What it is called: its path below the source.
        label: Its class; -1 where it has none.
        part: Split code that the source gives.
        digest: SHA-256 of its prepared pixels.
        features: ``float32[D]``
    """

    name: str
    label: int
    part: int
    digest: bytes
    features: NDArray[np.float32]


def check_feature_file(out: Path, *, replace: bool = False) -> None:
    """Refuse at once what could not be written after an hour's work.

    Args:
        out: The file.
        replace: Whether it may be there already.

    Raises:
        RecipeError: The file's name ends in no known way.
        MissingExtraError: It is to be a Parquet file, and pyarrow is not installed.
        StorageError: It is there already, or the system would refuse the write.
    """
    if out.suffix.lower() not in FORMS:
        raise RecipeError(
            f"a file name that ends in {' or '.join(FORMS)}",
            f"got {out.name or 'no name'!r}",
            "Give another name.",
        )
    if out.suffix.lower() == ".parquet":
        load_pyarrow()
    with storage_errors(out):
        if not replace and (out.exists() or out.is_symlink()):
            raise StorageError(
                "a new file", f"{out} is there already", "Choose another name with --out."
            )
    check_writable(out)


class FeatureRows:
    """Rows on their way into a file: on the disk beside it, until all are there.

    A context manager; the file is there, whole, after `finish`.

    Args:
        out: The file.
        units: Numbers of an image, D.
    """

    def __init__(self, out: Path, units: int) -> None:
        self._out, self._units = out, units
        self._stack = ExitStack()
        #: How many there are.
        self.count = 0
        self._longest = 1
        self._parted = False

    def __enter__(self) -> FeatureRows:
        folder = self._stack.enter_context(scratch_directory(self._out.parent))

        def opened(name: str) -> IO[bytes]:
            return self._stack.enter_context((folder / name).open("w+b"))

        with storage_errors(self._out):
            self._names, self._features = opened("names"), opened("features")
            self._labels, self._parts = opened("labels"), opened("parts")
            self._digests = opened("digests")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, row: FeatureRow) -> None:
        """Add an image.

        Raises:
            StorageError: The disk refuses the write.
        """
        with storage_errors(self._out):
            self._names.write(json.dumps(row.name).encode() + b"\n")
            self._features.write(row.features.tobytes())
            self._labels.write(np.int64(row.label).tobytes())
            self._parts.write(bytes([row.part]))
            self._digests.write(row.digest)
        self.count += 1
        self._longest = max(self._longest, len(row.name))
        self._parted = self._parted or row.part != UNASSIGNED

    def finish(self, about: JsonObject, classes: tuple[str, ...] | None) -> None:
        """Write the file.

        Args:
            about: What the features are of, as JSON.
            classes: What labels stand for; ``None`` where there are none.

        Raises:
            StorageError: The disk refuses the write.
        """
        write = self._write_npz if self._out.suffix.lower() == ".npz" else self._write_parquet
        with storage_errors(self._out):
            for file in (self._names, self._features, self._labels, self._parts, self._digests):
                file.flush()
            with atomic_file(self._out) as temporary:
                write(temporary, json.dumps(about, ensure_ascii=True), classes)

    def _write_npz(self, path: Path, about: str, classes: tuple[str, ...] | None) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            add_array(archive, "about", [np.array(about)])
            rows = self._rows_of(self._features, np.float32, self._units)
            add_array(archive, "features", rows, self.count)
            names = (np.array(names, f"U{self._longest}") for names in self._blocks_of_names())
            add_array(archive, "names", names, self.count)
            add_array(archive, "digests", self._rows_of(self._digests, np.uint8, 32), self.count)
            if self._parted:
                parts = (np.array(PARTS)[part] for part in self._rows_of(self._parts, np.uint8))
                add_array(archive, "parts", parts, self.count)
            if classes is not None:
                add_array(archive, "labels", self._rows_of(self._labels, np.int64), self.count)
                add_array(archive, "classes", [np.array(classes)])

    def _write_parquet(self, path: Path, about: str, classes: tuple[str, ...] | None) -> None:
        arrow, parquet = load_pyarrow()
        fields = {"name": arrow.string(), "digest": arrow.string()}
        fields |= {"part": arrow.string()} if self._parted else {}
        fields |= {"label": arrow.string()} if classes is not None else {}
        fields["features"] = arrow.list_(arrow.float32(), self._units)
        schema = arrow.schema(list(fields.items()), metadata={"opsin": about})
        blocks = zip(
            self._blocks_of_names(),
            self._rows_of(self._digests, np.uint8, 32),
            self._rows_of(self._parts, np.uint8),
            self._rows_of(self._labels, np.int64),
            self._rows_of(self._features, np.float32, self._units),
            strict=True,
        )
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for names, digests, parts, labels, features in blocks:
                columns: dict[str, object] = {
                    "name": list(map(as_arrow_text, names)),
                    "digest": [digest.tobytes().hex() for digest in digests],
                    "part": [PARTS[part] or None for part in parts],
                    "features": arrow.FixedSizeListArray.from_arrays(
                        arrow.array(features.reshape(-1)), self._units
                    ),
                }
                if classes is not None:
                    columns["label"] = [
                        None if label < 0 else as_arrow_text(classes[label]) for label in labels
                    ]
                table = {name: columns[name] for name in fields}
                writer.write_table(arrow.table(table, schema=schema))

    @property
    def _step(self) -> int:
        return max(1, _BLOCK // (4 * self._units))

    def _rows_of(
        self, file: IO[bytes], kind: type[np.generic], width: int | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield the rows of one array, some at a time."""
        file.seek(0)
        size = np.dtype(kind).itemsize * (width or 1)
        # A shard may have no rows, but has arrays.
        while (content := file.read(size * self._step)) or not self.count:
            rows = np.frombuffer(content, kind)
            yield rows if width is None else rows.reshape(-1, width)
            if not content:
                break

    def _blocks_of_names(self) -> Iterator[list[str]]:
        self._names.seek(0)
        block: list[str] = []
        for line in self._names:
            block.append(json.loads(line))
            if len(block) == self._step:
                yield block
                block = []
        if block or not self.count:
            yield block


def as_arrow_text(name: str) -> str:
    """Return a name as Arrow's texts hold it: other bytes than Unicode as visible escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
