"""What the process does that opens others' Parquet and Arrow files; `arrow_tables` asks it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.ipc as arrow_ipc
import pyarrow.parquet as pq

from opsin.core.child_process import Header
from opsin.core.errors import SourceError
from opsin.data.sources.table_cells import COLUMNS, TableSchema

# In a process with limits: what is reserved ahead would count.
pa.set_memory_pool(pa.system_memory_pool())

# Bytes of images that are handed over at a time, and rows at the most.
_BLOCK: Final = 8 << 20
_MOST_ROWS: Final = 1024


def _batches_of(files: Sequence[Path]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of files in batches, each with the number of its file."""
    for number, path in enumerate(files):
        try:
            for batch in _batches_of_file(path):
                step = max(1, min(_MOST_ROWS, _BLOCK * batch.num_rows // (batch.nbytes or 1)))
                for start in range(0, batch.num_rows, step):
                    yield number, batch.slice(start, step)
        except (pa.ArrowException, OSError, ValueError, EOFError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return SourceError(
        "a whole file of Parquet or Arrow", f"{path.name}: {reason}", "Write it again."
    )


def _batches_of_file(path: Path) -> Iterator[pa.RecordBatch]:
    if path.suffix.lower() == ".parquet":
        # Read piece by piece: a group of rows may be as large as the file.
        with pq.ParquetFile(path, buffer_size=_BLOCK, pre_buffer=False) as file:
            about = file.metadata
            groups = range(about.num_row_groups)
            size = max(1, sum(about.row_group(group).total_byte_size for group in groups))
            step = max(1, min(_MOST_ROWS, _BLOCK * about.num_rows // size))
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


def _blocks(header: Header) -> Iterator[tuple[Header, Sequence[bytes]]]:
    """Yield how many rows there are, 0 where only reading tells; then the rows, block by block."""
    files = [Path(name) for name in header["files"]]
    batches = _batches_of(files)
    first = next(batches, None)
    schemas: dict[int, TableSchema] = {}

    def schema_of(number: int, schema: pa.Schema) -> TableSchema:
        if number not in schemas:
            schemas[number] = TableSchema.of(
                schema.names,
                header["columns"],
                files[number].name,
                needed=COLUMNS[: 1 + header["labelled"]],
                metadata=schema.metadata,
            )
        return schemas[number]

    classes = schema_of(first[0], first[1].schema).classes if first else ()
    total = 0
    for path in (each for each in files if each.suffix.lower() == ".parquet"):
        try:
            total += pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(path, error) from error
    yield {"total": total, "classes": classes}, []
    for number, batch in itertools.chain([first] if first else [], batches):
        schema = schema_of(number, batch.schema)
        cells = {ours: batch.column(theirs).to_pylist() for ours, theirs in schema.columns.items()}
        rows, contents = [], []
        for row in schema.rows(cells):
            about: Header = {"split": row.split, "group": row.group, "name": row.name}
            if isinstance(row.reference, bytes):
                about["size"] = len(row.reference)
                contents.append(row.reference)
            rows.append(about | {"label": row.label})
        yield {"file": number, "rows": rows}, contents
    yield {"rows": []}, []


_reading: Iterator[tuple[Header, Sequence[bytes]]] = iter(())


def read(header: Header, _: memoryview) -> tuple[Header, Sequence[bytes]]:
    """Begin with files, or read on: `opsin.core.sandbox` runs this."""
    global _reading  # noqa: PLW0603  one process reads one source
    if header:
        _reading = _blocks(header)
    block = next(_reading, None)
    if block is None:
        raise SourceError("a file that can be read", "its reader has ended", "Load it again.")
    return block
