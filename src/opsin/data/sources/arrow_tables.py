"""Tables that hold their images: Parquet files, and data sets saved by Hugging Face's library."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opsin.core.errors import MissingExtraError, OpsinError, SourceError
from opsin.core.framing import Header
from opsin.core.regular_file import open_regular
from opsin.core.sandbox import Sandbox
from opsin.core.stored_json import Json, read_json
from opsin.data.image_stream import Stream, Unlabelled
from opsin.data.image_tree import holds_images
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.manifest import name_of
from opsin.data.sources.members import MAX_RATIO, SPARE_BYTES
from opsin.data.sources.packed import Record, labelled_records, open_packed
from opsin.data.sources.source_kind import SourceKind, SourceRequest, SourceRow

if TYPE_CHECKING:
    from opsin.data.sources.allowed_folder import AllowedFolder

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
    """Files of one table, in their order.

    Args:
        source: What the user called them.
        files: The files.
        splits: The part of each; empty for none.
        request: How they are to be read.
        inside: What paths in them may not leave.
    """

    source: str
    files: Sequence[Path]
    splits: Sequence[str]
    request: SourceRequest
    inside: AllowedFolder | None

    def located(self) -> LocatedSource:
        """Return them as a source of labelled images."""
        key = repr(("arrow", key_of_files(*self.files), self.splits, self.request.columns))

        def open_() -> LabelledImages:
            return open_packed(self.source, key) or self._read(key)

        return LocatedSource(key, open_)

    def stream(self) -> Stream:
        """Return their images without labels."""

        def each() -> Iterator[Unlabelled]:
            for number, (record, _) in enumerate(self._records(labelled=False)[1]):
                if isinstance(record.image, bytes):
                    yield Unlabelled(record.name or str(number), record.image)
                else:
                    place = str(record.image)
                    yield Unlabelled(record.name, place, place)

        return Stream(self.source, "table", each, lambda: None)

    def _read(self, key: str) -> LabelledImages:
        total, rows = self._records()
        first = next(rows, None)
        if first is None:
            raise SourceError(
                "a table with rows", f"{self.source} has none", "Is it the right one?"
            )
        records = (record for record, _ in itertools.chain([first], rows))
        return labelled_records(
            self.source, records, key=key, classes=first[1], total=total,
            most=MAX_RATIO * sum(file.stat().st_size for file in self.files) + SPARE_BYTES,
            watcher=self.request.watcher,
        )  # fmt: skip

    def _records(
        self, *, labelled: bool = True
    ) -> tuple[int, Iterator[tuple[Record, list[str] | None]]]:
        """Return how many rows there are, 0 where only reading tells; and each, with the classes.

        Raises:
            MissingExtraError: pyarrow is not installed.
            SourceError: A file is damaged, or lacks a column.
        """
        need_pyarrow()
        sandbox = Sandbox("opsin.data.arrow_reader:read", seconds=_SECONDS, memory=_MEMORY)
        begin: Header = {
            "files": [os.path.abspath(file) for file in self.files],  # noqa: PTH100
            "columns": dict(self.request.columns or {}),
            "labelled": labelled,
        }
        total = self._asked(sandbox, begin)[0]["total"]

        def rows() -> Iterator[tuple[Record, list[str] | None]]:
            with sandbox:
                line = 0
                while True:
                    said, body = self._asked(sandbox, {})
                    if not said["rows"]:
                        return
                    place = 0
                    for row in said["rows"]:
                        line += 1
                        content = body[place : place + row.get("size", 0)]
                        place += len(content)
                        yield self._record(said["file"], row, content, line), said["classes"]

        return total, rows()

    def _asked(self, sandbox: Sandbox, header: Header) -> tuple[Header, bytes]:
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
    """Refuse to go on without pyarrow.

    Raises:
        MissingExtraError: It is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("reading Parquet and Arrow files", "parquet")


def part_in_name(name: str) -> str:
    """Return the part of a split that a file's name says, as ``train-00000-of-00002.parquet``.

    Example:
        >>> part_in_name("data/validation-0.parquet"), part_in_name("latest.parquet")
        ('validation', '')
    """
    found = _PART.findall(name)
    word = found[-1].lower() if found else ""
    return _WORDS.get(word, word)


def _tables_of(request: SourceRequest) -> ArrowTables | None:
    """Find what a source holds; ``None`` where it is of another kind."""
    path = request.path
    if _is_parquet(request):
        return ArrowTables(request.written, [path], [""], request, request.allowed(path.parent))
    if not request.is_folder:
        return None
    if (path / "dataset_dict.json").is_file():
        return _saved(request, _listed(path / "dataset_dict.json", "splits"))
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return _saved(request, [""])
    # Among images a table is of something else.
    return None if request.holds_images else _folder_of_parquet(request)


def _is_parquet(request: SourceRequest) -> bool:
    return request.is_file and request.path.suffix.lower() == ".parquet"


def _parquet_in(folder: Path) -> list[Path]:
    found = [*folder.glob("*.parquet"), *folder.glob("*/*.parquet"), *folder.glob("*/*/*.parquet")]
    return sorted(file for file in found if file.is_file() and not file.name.startswith("."))


def _folder_of_parquet(request: SourceRequest) -> ArrowTables | None:
    root = request.path
    files = _parquet_in(root)
    if not files:
        return None
    splits = [part_in_name(file.relative_to(root).as_posix().removesuffix(".parquet"))
              for file in files]  # fmt: skip
    _check_within(files, root, request)
    return ArrowTables(request.written, files, splits, request, request.allowed(root))


def _check_within(files: Sequence[Path], root: Path, request: SourceRequest) -> None:
    inside = request.allowed(root)
    for file in files:
        if inside is not None and not inside.holds(str(file.relative_to(root)), root):
            raise SourceError(f"files within {root}", f"{file} leads out of it", inside.advice)


def _saved(request: SourceRequest, parts: Sequence[str]) -> ArrowTables:
    """Return what Hugging Face's `save_to_disk` wrote: one part, or several in folders."""
    root = request.path
    found = [
        (root / part / name, part)
        for part in parts
        for name in _listed(root / part / "state.json", "_data_files")
    ]
    files, splits = [file for file, _ in found], [part for _, part in found]
    _check_within(files, root, request)
    return ArrowTables(request.written, files, splits, request, request.allowed(root))


def _listed(file: Path, key: str) -> list[str]:
    """Return the names that a file of a saved data set lists."""
    try:
        with open_regular(file) as stream:
            content: Json = read_json(stream)
        listed = content[key] if isinstance(content, dict) else None
        each = listed if isinstance(listed, list) else []
        names = [one["filename"] if isinstance(one, dict) else one for one in each]
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
