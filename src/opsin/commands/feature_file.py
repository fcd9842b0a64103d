"""Features of images in one ``.npz`` or ``.parquet`` file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.data_files import add_array
from opsin.commands.predict.rows import as_arrow, load_pyarrow
from opsin.core.errors import RecipeError, StorageError
from opsin.core.storage import atomic_file, check_writable, scratch_directory, storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data.split import UNASSIGNED

#: Endings of the files that features can be written into.
FORMS: Final = (".npz", ".parquet")
#: Names of the parts of a split, by their codes.
PARTS: Final = ("", "train", "val", "test")
# Bytes of features that are held at once, and what else is kept of an image.
_BLOCK: Final = 1 << 22
_FACTS: Final = np.dtype([("label", "<i8"), ("part", "u1"), ("digest", "u1", (32,))])


@dataclass(frozen=True)
class FeatureRow:
    """One image: its class (-1: none) and split code, SHA-256 of its pixels, ``float32[D]``."""

    name: str
    label: int
    part: int
    digest: bytes
    features: NDArray[np.float32]


def check_feature_file(out: Path, *, replace: bool = False) -> None:
    """Refuse at once what could not be written after an hour's work."""
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
    """Rows on their way into a file: on the disk beside it, until `finish` writes it whole."""

    def __init__(self, out: Path, units: int) -> None:
        self._out, self._units = out, units
        self._stack = ExitStack()
        #: How many there are.
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

    def add(self, row: FeatureRow) -> None:
        """Add an image."""
        with storage_errors(self._out):
            self._names.write(json.dumps(row.name).encode() + b"\n")
            facts = np.array((row.label, row.part, np.frombuffer(row.digest, np.uint8)), _FACTS)
            self._facts.write(facts.tobytes())
            self._features.write(row.features.tobytes())
        self.count += 1
        self._longest = max(self._longest, len(row.name))
        self._parted = self._parted or row.part != UNASSIGNED

    def finish(self, about: JsonObject, classes: tuple[str, ...] | None) -> None:
        """Write the file."""
        write = self._write_npz if self._out.suffix.lower() == ".npz" else self._write_parquet
        with storage_errors(self._out), atomic_file(self._out) as temporary:
            write(temporary, json.dumps(about, ensure_ascii=True), classes)

    def _write_npz(self, path: Path, about: str, classes: tuple[str, ...] | None) -> None:
        def add(name: str, blocks: Iterator[NDArray[Any]]) -> None:
            add_array(archive, name, blocks, self.count)

        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            add_array(archive, "about", [np.array(about)])
            add("features", self._blocks_of_features())
            add("names", (np.array(some, f"U{self._longest}") for some in self._blocks_of_names()))
            add("digests", (facts["digest"] for facts in self._blocks_of_facts()))
            if self._parted:
                add("parts", (np.array(PARTS)[facts["part"]] for facts in self._blocks_of_facts()))
            if classes is not None:
                add("labels", (facts["label"] for facts in self._blocks_of_facts()))
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
            self._blocks_of_facts(),
            self._blocks_of_features(),
            strict=True,
        )
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for names, facts, features in blocks:
                labels = [*map(as_arrow, classes or ()), None]  # -1, none, is the last
                columns: dict[str, object] = {
                    "name": list(map(as_arrow, names)),
                    "digest": [digest.tobytes().hex() for digest in facts["digest"]],
                    "part": [PARTS[part] or None for part in facts["part"]],
                    "label": [labels[label] for label in facts["label"]] if classes else None,
                    "features": arrow.FixedSizeListArray.from_arrays(
                        arrow.array(features.reshape(-1)), self._units
                    ),
                }
                table = {name: columns[name] for name in fields}
                writer.write_table(arrow.table(table, schema=schema))

    def _blocks(self, file: IO[bytes], kind: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Yield the rows of a file, some at a time; of none, an empty block."""
        file.seek(0)
        for _ in range(0, max(1, self.count), self._step):
            yield np.frombuffer(file.read(kind.itemsize * self._step), kind)

    def _blocks_of_facts(self) -> Iterator[NDArray[Any]]:
        return self._blocks(self._facts, _FACTS)

    def _blocks_of_features(self) -> Iterator[NDArray[Any]]:
        kind = np.dtype([("features", "<f4", (self._units,))])
        return (block["features"] for block in self._blocks(self._features, kind))

    def _blocks_of_names(self) -> Iterator[list[str]]:
        self._names.seek(0)
        for start in range(0, max(1, self.count), self._step):
            count = min(self._step, self.count - start)
            yield [json.loads(self._names.readline()) for _ in range(count)]
