"""Tables that hold their images: Parquet files, and data sets saved by Hugging Face's library."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opsin.core.child_process import Header
from opsin.core.errors import MissingExtraError, OpsinError, SourceError
from opsin.core.files import open_regular
from opsin.core.sandbox import Sandbox
from opsin.core.stored_json import Json, read_json
from opsin.data.image_stream import ListedImage, Stream
from opsin.data.image_tree import holds_images
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.members import MAX_RATIO, SPARE_BYTES
from opsin.data.sources.packed import Record, labelled_records, open_packed
from opsin.data.sources.source_kind import AllowedFolder, SourceKind, SourceRequest, SourceRow
from opsin.data.sources.table import name_of

# What reading a block may take, in seconds and bytes.
_SECONDS: Final = 60.0
_MEMORY: Final = 2 << 30
# Parts of a split in names of files, as Hugging Face's library knows them: train-00000-of-00002.
_PART: Final = re.compile(
    r"(?:^|[-._ /])(train(?:ing)?|test(?:ing)?|holdout|eval(?:uation)?|val(?:id(?:ation)?)?|dev)"
    r"(?=[-._ /0-9]|$)",
    re.IGNORECASE,
)
_WORDS: Final = {
    "training": "train", "testing": "test", "evaluation": "test", "eval": "test",
    "holdout": "test",
}  # fmt: skip


@dataclass(frozen=True)
class ArrowTables:
    """Files of one table in their order, the part of each, and what paths in them may not leave."""

    files: Sequence[Path]
    splits: Sequence[str]
    request: SourceRequest
    inside: AllowedFolder | None

    def located(self) -> LocatedSource:
        """Return them as a source of labelled images."""
        key = repr(("arrow", key_of_files(*self.files), self.splits, self.request.columns))
        return LocatedSource(key, lambda: open_packed(self.request.written, key) or self._read(key))

    def stream(self) -> Stream:
        """Return their images without labels."""

        def images() -> Iterator[ListedImage]:
            for number, (record, _) in enumerate(self._records(labelled=False)[1]):
                if isinstance(record.image, bytes):
                    yield ListedImage(record.name or str(number), record.image)
                else:
                    place = str(record.image)
                    yield ListedImage(record.name, place)

        return Stream(self.request.written, "table", images)

    def _read(self, key: str) -> LabelledImages:
        source = self.request.written
        total, rows = self._records()
        first = next(rows, None)
        if first is None:
            raise SourceError("a table with rows", f"{source} has none", "Is it the right one?")
        size = sum(file.stat().st_size for file in self.files)
        return labelled_records(
            source,
            (record for record, _ in itertools.chain([first], rows)),
            key=key,
            classes=first[1] or (),
            total=total,
            most=MAX_RATIO * size + SPARE_BYTES,
            watcher=self.request.watcher,
        )

    def _records(
        self, *, labelled: bool = True
    ) -> tuple[int, Iterator[tuple[Record, list[str] | None]]]:
        """Return how many rows there are, 0 where only reading tells; and each with the classes."""
        need_pyarrow()
        sandbox = Sandbox("opsin.data.arrow_reader:read", seconds=_SECONDS, memory=_MEMORY)
        total = self._ask(
            sandbox,
            {
                "files": [os.path.abspath(file) for file in self.files],  # noqa: PTH100
                "columns": dict(self.request.columns or {}),
                "labelled": labelled,
            },
        )[0]["total"]

        def rows() -> Iterator[tuple[Record, list[str] | None]]:
            with sandbox:
                line = 0
                while True:
                    said, body = self._ask(sandbox, {})
                    if not said["rows"]:
                        return
                    start = 0
                    for row in said["rows"]:
                        line += 1
                        end = start + row.get("size", 0)
                        yield (
                            self._record(said["file"], row, body[start:end], line),
                            said["classes"],
                        )
                        start = end

        return total, rows()

    @staticmethod
    def _ask(sandbox: Sandbox, header: Header) -> tuple[Header, bytes]:
        try:
            return sandbox.call(header)
        except OpsinError as error:
            sandbox.close()
            raise SourceError(error.expected, error.received, error.advice) from error

    def _record(self, file: int, row: Header, content: bytes, line: int) -> Record:
        image: bytes | Path = content
        if "path" in row:
            table = self.files[file]
            image = table.parent / name_of(row["path"], table, line, self.inside)
        split = row.get("split") or self.splits[file]
        return Record(image, row.get("label", ""), split, row.get("group", ""), row["name"])


def need_pyarrow() -> None:
    """Refuse to go on without pyarrow."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("reading Parquet and Arrow files", "parquet")


def part_in_name(name: str) -> str:
    """Return the part of a split that a file's name says, as ``train-00000-of-00002.parquet``."""
    found = _PART.findall(name)
    word = found[-1].lower() if found else ""
    return _WORDS.get(word, word)


def _tables_of(request: SourceRequest) -> ArrowTables | None:
    """Find what a source holds; ``None`` where it is of another kind."""
    root = request.path
    if _is_parquet(request):
        return ArrowTables([root], [""], request, request.allowed(root.parent))
    if not request.is_folder:
        return None
    # What Hugging Face's `save_to_disk` wrote: one part, or several in folders.
    parts = None
    if (root / "dataset_dict.json").is_file():
        parts = _listed(root / "dataset_dict.json", "splits")
    elif (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        parts = [""]
    if parts is not None:
        found = [
            (root / part / name, part)
            for part in parts
            for name in _listed(root / part / "state.json", "_data_files")
        ]
    elif request.holds_images:  # among images a table is of something else
        return None
    else:
        files = sorted(
            file for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet")
            for file in root.glob(pattern) if file.is_file() and not file.name.startswith(".")
        )  # fmt: skip
        names = [file.relative_to(root).as_posix().removesuffix(".parquet") for file in files]
        found = list(zip(files, map(part_in_name, names), strict=True))
    inside = request.allowed(root)
    for file, _ in found:
        if inside is not None and not inside.holds(str(file.relative_to(root)), root):
            raise SourceError(f"files within {root}", f"{file} leads out of it", inside.advice)
    if not found and parts is None:
        return None
    return ArrowTables([file for file, _ in found], [part for _, part in found], request, inside)


def _is_parquet(request: SourceRequest) -> bool:
    return request.is_file and request.path.suffix.lower() == ".parquet"


def _listed(file: Path, key: str) -> list[str]:
    """Return the names that a file of a saved data set lists."""
    try:
        with open_regular(file) as stream:
            content: Json = read_json(stream)
        listed = content[key] if isinstance(content, dict) else None
        names = [one["filename"] if isinstance(one, dict) else one
                 for one in (listed if isinstance(listed, list) else [])]  # fmt: skip
        if not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) for name in names):
            raise ValueError(f"its {key} are no names")
        return [str(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            "a data set that was saved whole", f"{file} cannot be used ({error})", "Save it again."
        ) from error


def _opened(request: SourceRequest) -> ArrowTables:
    tables = _tables_of(request)
    if tables is None:
        raise SourceError("a table", f"{request.written} is gone", "Give it again.")
    return tables


KIND = SourceKind(
    title="Parquet files",
    rows=(
        SourceRow(
            "Parquet files",
            "`.parquet` with a column of images (the bytes of files, paths, arrays, or as Hugging "
            "Face has them) and `label`, where there `split` and `group`; or a folder of them, "
            "such as `data/train-00000-of-00002.parquet`",
            "by `split` or the files' names, else cut by Opsin",
        ),
        SourceRow(
            "a saved data set",
            "the folder that `save_to_disk` of Hugging Face's `datasets` writes",
            "as given",
        ),
    ),
    match=lambda request: _tables_of(request) is not None,
    match_packed=lambda request: _is_parquet(request) and not holds_images(request.path.parent),
    files=("*.parquet",),
    locate=lambda request: _opened(request).located(),
    iter_unlabelled=lambda request: _opened(request).stream(),
)
