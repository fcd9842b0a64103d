"""What the process does that opens others' Parquet and Arrow files; `arrow_tables` asks it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.ipc as arrow_ipc
import pyarrow.parquet as pq

from opsin.core.child_process import Header
from opsin.core.errors import SourceError
from opsin.data.sources.table_cells import TableSchema

# In a process with limits: what is reserved ahead would count.
pa.set_memory_pool(pa.system_memory_pool())

# Bytes of images that are handed over at a time, and rows at the most.
_BLOCK: Final = 8 << 20
_MOST_ROWS: Final = 1024


def batches_of(files: Iterable[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of Parquet and Arrow files in batches, each with the number of its file."""
    for number, name in enumerate(files):
        path = Path(name)
        try:
            for batch in _batches_of_file(path):
                step = max(1, min(_MOST_ROWS, _BLOCK * batch.num_rows // (batch.nbytes or 1)))
                for start in range(0, batch.num_rows, step):
                    yield number, batch.slice(start, step)
        except (pa.ArrowException, OSError, ValueError, EOFError) as error:
            raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> SourceError:
    """Return why a file cannot be read."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return SourceError(
        "a whole file of Parquet or Arrow", f"{path.name}: {reason}", "Write it again."
    )


def _batches_of_file(path: Path) -> Iterator[pa.RecordBatch]:
    if path.suffix.lower() == ".parquet":
        # Read piece by piece: a group of rows may be as large as the file.
        with pq.ParquetFile(path, buffer_size=_BLOCK, pre_buffer=False) as file:
            rows = max(1, file.metadata.num_rows)
            each = sum(
                file.metadata.row_group(group).total_byte_size
                for group in range(file.metadata.num_row_groups)
            )
            step = max(1, min(_MOST_ROWS, _BLOCK * rows // max(1, each)))
            yield from file.iter_batches(batch_size=step, use_threads=False)
        return
    with pa.OSFile(str(path)) as file:
        try:
            stream = arrow_ipc.open_stream(file)
        except pa.ArrowInvalid:
            file.seek(0)
            whole = arrow_ipc.open_file(file)
            yield from (whole.get_batch(number) for number in range(whole.num_record_batches))
            return
        yield from stream


class _Reading:
    """The files that are being read, and where."""

    def __init__(self, header: Header) -> None:
        self._batches = batches_of(header["files"])
        self._header = header
        self._schemas: dict[int, TableSchema] = {}

    def next(self) -> tuple[Header, Sequence[bytes]]:
        """Return the next rows, none at the end."""
        number, batch = next(self._batches, (0, None))
        if batch is None:
            return {"rows": []}, []
        schema = self._schema(number, batch.schema)
        rows: list[Header] = []
        contents = []
        cells = {ours: batch.column(theirs).to_pylist() for ours, theirs in schema.columns.items()}
        for image, said in schema.rows(cells):
            if isinstance(image, bytes):
                contents.append(image)
                rows.append({"size": len(image), **said})
            else:
                rows.append({"path": image, **said})
        classes = None if schema.classes is None else list(schema.classes)
        return {"file": number, "rows": rows, "classes": classes}, contents

    def _schema(self, number: int, schema: pa.Schema) -> TableSchema:
        if number not in self._schemas:
            name = Path(self._header["files"][number]).name
            labelled = self._header["labelled"]
            self._schemas[number] = TableSchema.of(
                schema.names,
                self._header["columns"],
                name,
                metadata=schema.metadata,
                labelled=labelled,
            )
        return self._schemas[number]


_reading: _Reading | None = None


def read(header: Header, _: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Begin with files, or read on: `opsin.core.sandbox` runs this."""
    global _reading  # noqa: PLW0603  one process reads one source
    if header:
        _reading = _Reading(header)
        return {"total": sum(_rows_in(Path(name)) for name in header["files"])}, []
    if _reading is None:
        raise SourceError("a file that can be read", "its reader has ended", "Load it again.")
    return _reading.next()


def _rows_in(path: Path) -> int:
    """Return how many rows a file has; 0 where only reading tells."""
    try:
        if path.suffix.lower() == ".parquet":
            rows: int = pq.read_metadata(path).num_rows
            return rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, error) from error
    return 0
