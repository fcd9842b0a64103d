"""Tables that hold images: Parquet files (in a sandbox), data sets of the hub, data frames."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from opsin.core import errors
from opsin.core.child_process import Header
from opsin.core.errors import SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.sandbox import Sandbox
from opsin.data.image_stream import Stream
from opsin.data.image_tree import holds_images
from opsin.data.sources import rows
from opsin.data.sources.archive import MAX_RATIO, SPARE_BYTES
from opsin.data.sources.contents import LabelledImages, LocatedSource, key_of_files
from opsin.data.sources.rows import COLUMNS, Row, SourceKind, SourceRequest
from opsin.data.sources.table import USUAL, columns_in, is_missing, name_of, text_of
from opsin.data.split import part_named
from opsin.hub.hub_fetch import asking, connect, download, is_offline, listed
from opsin.hub.hub_name import PREFIX, HubName, commit_of, snapshot_of

_USUAL: Final = USUAL | {
    "path": ("path", "file_name", "image", "img"),
    "label": ("label", "labels"),
}
# Limits of reading a block, in seconds and bytes.
_SECONDS, _MEMORY = 60.0, 2 << 30
# Bytes and rows per block at most.
_BLOCK, _MOST_ROWS = 8 << 20, 1024
# How a file of a series says how many there are: train-00000-of-00003.parquet
_SHARD: Final = re.compile(r"-\d+-of-(\d{1,6})(?=[-.])")
_ADDRESS: Final = re.compile(rf"(?P<name>{PREFIX}[^:]+)(?::(?P<config>[^:]+))?")

#: Files of one table in order, their parts, and the folder that paths may not leave.
_Tables = tuple[list[Path], list[str], rows.AllowedFolder | None]


def need_pyarrow() -> None:
    """Refuse to go on without pyarrow."""
    if importlib.util.find_spec("pyarrow") is None:
        raise errors.MissingExtraError("reading Parquet", "parquet")


def _rows_of(
    columns: Mapping[str, str], classes: Sequence[str], values_of: Callable[[str], Iterable[Any]]
) -> Iterator[Row]:
    cells = {ours: values_of(theirs) for ours, theirs in columns.items()}
    for values in zip(*cells.values(), strict=True):
        row = dict(zip(cells, values, strict=True))
        image, name = _image_of(row.pop("path"), columns["path"])
        label, split, group = (text_of(row.get(n), n).strip() for n in COLUMNS[1:])
        if classes and label not in classes and label.lstrip("-").isdecimal():
            if int(label) not in range(-1, len(classes)):
                raise SourceError(
                    f"A row has the class {label}, and the table names {len(classes)}"
                )
            label = ("", *classes)[int(label) + 1]  # -1 is none
        yield Row(image, label, split, group, name)


def _image_of(value: Any, column: str, name: str = "") -> tuple[bytes | str, str]:
    """Return a cell's image, as the content of a file or as a path, and its name."""
    if isinstance(value, Mapping) and {"bytes", "path"} >= set(value):
        path = str(value.get("path") or "")
        return _image_of(
            path or None if value.get("bytes") is None else value["bytes"], column, path
        )
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), name
    if isinstance(value, str | os.PathLike):
        return os.fspath(value), os.fspath(value)
    if is_missing(value):
        return b"", name
    raise SourceError(
        f"The column {column} holds a {type(value).__name__}, and no paths or contents of files",
        "Choose the column of images with --columns path=NAME; arrays go in by opsin.from_arrays.",
    )


def _blocks(header: Header) -> Iterator[tuple[Header, Sequence[bytes]]]:
    """Yield the number of rows and the classes, then blocks of rows."""
    import pyarrow as pa  # noqa: PLC0415  an extra, and in a process of its own
    import pyarrow.parquet as pq  # noqa: PLC0415

    # Memory reserved ahead would count towards the limit.
    pa.set_memory_pool(pa.system_memory_pool())
    files = [Path(name) for name in header["files"]]
    path = files[0]

    def columns_of(file: Any) -> tuple[dict[str, str], tuple[str, ...]]:
        schema = file.schema_arrow
        return columns_in(
            schema.names,
            header["columns"],
            path.name,
            usual=_USUAL,
            needed=COLUMNS[: 1 + header["labelled"]],
            metadata=schema.metadata,
        )

    try:
        with pq.ParquetFile(path) as first:
            _, classes = columns_of(first)
        total = 0
        for path in files:
            total += pq.read_metadata(path).num_rows
        yield {"total": total, "classes": classes}, []
        for number, path in enumerate(files):
            # In pieces: a row group may be as large as the file.
            with pq.ParquetFile(path, buffer_size=_BLOCK, pre_buffer=False) as file:
                (columns, own), about = columns_of(file), file.metadata
                groups = range(about.num_row_groups)
                size = max(1, sum(about.row_group(group).total_byte_size for group in groups))
                step = max(1, min(_MOST_ROWS, _BLOCK * about.num_rows // size))
                for batch in file.iter_batches(batch_size=step, use_threads=False):
                    few = max(1, min(_MOST_ROWS, _BLOCK * batch.num_rows // (batch.nbytes or 1)))
                    for start in range(0, batch.num_rows, few):
                        yield _block(number, batch.slice(start, few), columns, own)
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise SourceError(f"{path.name} is no whole Parquet file: {reason}") from error
    yield {"rows": []}, []


def _block(
    number: int, batch: Any, columns: Mapping[str, str], classes: Sequence[str]
) -> tuple[Header, list[bytes]]:
    listed, contents = [], []
    for row in _rows_of(columns, classes, lambda theirs: batch.column(theirs).to_pylist()):
        about: Header = {name: getattr(row, name) for name in ("label", "split", "group", "name")}
        if isinstance(row.reference, bytes):
            about["size"] = len(row.reference)
            contents.append(row.reference)
        listed.append(about)
    return {"file": number, "rows": listed}, contents


_reading: Iterator[tuple[Header, Sequence[bytes]]] = iter(())


def read(header: Header, _: bytes) -> tuple[Header, Sequence[bytes]]:
    """Begin with files, or read on: `opsin.core.sandbox` runs this."""
    global _reading  # noqa: PLW0603  one process reads one source
    if header:
        _reading = _blocks(header)
    block = next(_reading, None)
    if block is None:
        raise SourceError("The reader of the file has ended", "Load it again.")
    return block


def _open(
    request: SourceRequest, tables: _Tables, *, labelled: bool
) -> tuple[Header, Iterator[Row]]:
    """Start reading; return facts about the whole, and the rows."""
    need_pyarrow()
    files, splits, inside = tables
    sandbox = Sandbox(f"{__name__}:read", seconds=_SECONDS, memory=_MEMORY)

    def ask(header: Header) -> tuple[Header, bytes]:
        try:
            return sandbox.call(header)
        except errors.OpsinError as error:
            sandbox.close()
            raise SourceError(error.message, error.advice) from error

    def listed() -> Iterator[Row]:
        with sandbox:
            line = 0
            while (block := ask({}))[0]["rows"]:
                (header, body), start = block, 0
                table, split = files[header["file"]], splits[header["file"]]
                for about in header["rows"]:
                    line += 1
                    about["split"] = about["split"] or split
                    if "size" in about:
                        end = start + about.pop("size")
                        yield Row(body[start:end], **about)
                        start = end
                    else:
                        path = str(table.parent / name_of(about["name"], table, line, inside))
                        yield Row(path, **about, place=path)

    paths = [os.path.abspath(file) for file in files]  # noqa: PTH100
    columns = dict(request.columns or {})
    about, _ = ask({"files": paths, "columns": columns, "labelled": labelled})
    return about, listed()


def _located(request: SourceRequest, tables: _Tables) -> LocatedSource:
    files, splits, _ = tables
    key = repr(("parquet", key_of_files(*files), splits, request.columns))

    def read_all() -> LabelledImages:
        if kept := rows.open_packed(request.written, key):
            return kept
        about, listed = _open(request, tables, labelled=True)
        return rows.collect(
            request.written,
            listed,
            key=key,
            classes=lambda: about["classes"] or (),
            most=MAX_RATIO * sum(file.stat().st_size for file in files) + SPARE_BYTES,
            total=about["total"],
            watcher=request.watcher,
        )

    return LocatedSource(key, read_all)


def _stream(request: SourceRequest, tables: _Tables) -> Stream:
    return rows.stream_of_table(request.written, lambda: _open(request, tables, labelled=False)[1])


def _tables_in(request: SourceRequest) -> _Tables:
    root = request.path
    if request.is_file_of(".parquet"):
        return [root], [""], request.allowed(root.parent)
    if not request.is_folder or holds_images(root):  # a table among images is another kind
        return [], [], None
    files = [
        file
        for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet")
        for file in root.glob(pattern)
        if file.is_file() and not file.name.startswith(".")
    ]
    return _in_parts(sorted(files), root, request.allowed(root, *files))


def _in_parts(files: list[Path], root: Path, inside: rows.AllowedFolder | None) -> _Tables:
    words = (re.split(r"[-._ /\d]+", file.relative_to(root).as_posix().lower()) for file in files)
    parts = [[word for word in each if part_named(word) is not None] for each in words]
    return files, [(part or [""])[-1] for part in parts], inside


def _from_hub(request: SourceRequest) -> _Tables:
    need_pyarrow()
    address = _ADDRESS.fullmatch(request.written)
    name = HubName.read(address["name"]) if address else None
    if address is None or name is None:
        raise SourceError(
            f"{request.written!r} is no data set of the hub, such as {PREFIX}ylecun/mnist; "
            "@revision and :configuration may follow"
        )
    try:
        root = _snapshot(request, replace(name, kind="dataset"), address["config"])
    except errors.ModelFileError as error:
        raise SourceError(error.message, error.advice) from error
    names = sorted(file.relative_to(root).as_posix() for file in root.rglob("*.parquet"))
    if not names:
        advice = f"Name the hub's own: {PREFIX}{name.repository}@refs/convert/parquet"
        raise SourceError(f"{request.written} has no Parquet files", advice)
    files = [root / file for file in _of_config(names, address["config"], request)]
    for match in filter(None, (_SHARD.search(file.name) for file in files)):
        # A download that broke off leaves some.
        there = sum(file.name.startswith(match.string[: match.start() + 1]) for file in files)
        if there < int(match[1]):
            problem = f"Of {request.written}, {there:,} of {int(match[1]):,} files are here"
            raise SourceError(problem, "The same command with a connection fetches the rest.")
    return _in_parts(files, root, request.allowed(root.parent.parent, *files))


def _snapshot(request: SourceRequest, name: HubName, config: str | None) -> Path:
    """Fetch the tables of a revision; return their folder."""
    if not is_offline():
        hub = connect("data sets of the hub")
        try:
            with asking(hub, name):
                where, names = listed(hub, name)
        except errors.DownloadError as error:
            if commit_of(name) is None:
                raise
            request.watcher.note(f"{error.message}: what is here of {name.repository} is used")
        else:
            if not name.is_pinned:
                request.watcher.note(f"{name.repository} is at commit {where.revision[:12]}")
            tables = [file for file in names if file.endswith(".parquet")]
            with asking(hub, name):
                for file in _of_config(tables, config, request):
                    # By the revision's name, so that the library records its commit.
                    download(hub, name, file, request.watcher)
            return snapshot_of(where)
    return snapshot_of(commit_of(name) or name)


def _of_config(files: list[str], config: str | None, request: SourceRequest) -> list[str]:
    configs: dict[str, list[str]] = {}
    for file in files:
        around = (name for name in file.split("/")[:-1] if name != "data" and not part_named(name))
        configs.setdefault(next(around, ""), []).append(file)
    config = config or ("default" if "default" in configs else None)
    if not files or (config is None and len(configs) < 2):
        return files
    if config not in configs:
        raise SourceError(
            f"{request.written} has the configurations {', '.join(sorted(configs)[:20])}"
            + (f", and {config!r} not found" if config else ""),
            f"One is named behind it: {PREFIX}owner/name:NAME.",
        )
    return configs[config]


def title_of(source: object) -> str:
    """Return an object's type with its library."""
    kind = type(source)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"


def located_frame(
    frame: Any, title: str, columns: Mapping[str, str] | None = None, *, watcher: Watcher = SILENT
) -> LocatedSource:
    """Read the images of a data frame, of any library, into the cache."""
    if not (hasattr(frame, "columns") and hasattr(frame, "__getitem__")):
        advice = "Give arrays to opsin.from_arrays, a data set of Hugging Face by data.to_parquet."
        raise SourceError(f"A {title_of(frame)} is no source and no data frame", advice)
    names = [str(name) for name in frame.columns]
    found, classes = columns_in(names, columns, title, usual=_USUAL)
    listed = (
        row
        if isinstance(row.reference, bytes)
        else row._replace(reference=os.path.expanduser(str(row.reference)))  # noqa: PTH111
        for row in _rows_of(found, classes, lambda theirs: frame[theirs].to_list())
    )
    return rows.collect(title, listed, total=len(frame), watcher=watcher).located()


KINDS = (
    SourceKind(
        "Parquet files", lambda request: bool(_tables_in(request)[0]),
        lambda request: _located(request, _tables_in(request)),
        lambda request: _stream(request, _tables_in(request)), files=("*.parquet",),
        match_packed=lambda request: (
            request.is_file_of(".parquet") and not holds_images(request.path.parent)
        ),
    ),
    SourceKind(
        f"a data set of the hub ({PREFIX}owner/name)",
        lambda request: request.written.startswith(PREFIX),
        lambda request: _located(request, _from_hub(request)),
        lambda request: _stream(request, _from_hub(request)), rank=-1,
    ),
)  # fmt: skip
