"""The verb `merge`: shards joined into one file."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from opsin.commands.out_file import ShardManifest, digest_of, manifest_of
from opsin.commands.predict.rows import load_pyarrow
from opsin.commands.transfer import add_array
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import open_regular
from opsin.core.format import counted
from opsin.core.storage import atomic_file, check_new_file, storage_errors
from opsin.core.stored_arrays import StoredArrays
from opsin.core.stored_json import JsonObject
from opsin.data.shard import Shard, named_shard, whole_file
from opsin.stores.store_address import is_stored

# Bytes and rows of features per block, and missing shards that an error names.
_BLOCK: Final = 1 << 20
_ROWS: Final = 1024
_NAMED: Final = 5


@dataclass(frozen=True)
class Merged:
    """The result of `merge`.

    Args:
        out: The file.
        verb: The command whose file it is: ``predict`` or ``embed``.
        shards: How many shards it was made of.
        images: Images of the source.
        rows: Rows of these shards.
        seconds: How long it took.
    """

    out: Path
    verb: str
    shards: int
    images: int
    rows: int
    seconds: float

    def to_json(self) -> JsonObject:
        """Return everything as ``--json`` prints it."""
        return vars(self) | {"out": str(self.out)}


@checked
def merge(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Merged:
    """Join the shards of a file, in any order; but for Parquet, the same bytes as made in one go.

    Args:
        shards: All shards, or the name that they were given: ``answers.csv`` stands for
            ``answers-00001-of-00003.csv`` and so on.
        out: The new file (default: that name).
        watcher: Receives progress and notes.

    Raises:
        RecipeError: Shards are missing, there twice, not finished, on a store, or of different
            models, images or options. All that are missing are named.
        StorageError: A shard was changed since, the file is there already, or the disk refuses it.

    Example:
        >>> merged = merge("answers.csv")                             # doctest: +SKIP
        >>> merge(["a-00001-of-00002.npz", "a-00002-of-00002.npz"])   # doctest: +SKIP
    """
    began = time.monotonic()
    names = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    for name in names if out is None else [*names, out]:
        if is_stored(name):
            raise RecipeError(f"{name} is on a store", "Copy all shards here.")
    files = [Path(name) for name in names]
    if not files or not all(file.name for file in files):
        raise RecipeError("There are no shards to merge")
    by_name = len(files) == 1 and not manifest_of(files[0]).exists()
    whole = Path(out) if out is not None else files[0] if by_name else whole_file(files[0])
    ordered = _complete(_shards_of(files[0]) if by_name else files, by_name=by_name)
    ending = ordered[0].file.suffix.lower()
    if whole is None:
        raise RecipeError(f"{files[0].name} does not name the merged file", "Give --out FILE.")
    check_new_file(whole, ending)
    versions = sorted({shard.manifest.opsin for shard in ordered})
    if len(versions) > 1:
        watcher.note(f"they were made by several versions of Opsin: {', '.join(versions)}")
    for shard in ordered:
        if digest_of(shard.file) != shard.manifest.sha256:
            raise _changed(shard.file)
    join = {".npz": _join_arrays, ".parquet": _join_tables}.get(ending, _join_lines)
    first, rows = ordered[0].manifest, sum(shard.manifest.rows for shard in ordered)
    watcher.begin("Merge", rows, "rows")
    try:
        with atomic_file(whole) as temporary:
            join(ordered, temporary, watcher)
    except (ValueError, KeyError, TypeError) as error:  # Arrow's errors are ValueErrors
        raise _changed(ordered[0].file) from error
    watcher.end()
    return Merged(whole, first.verb, len(ordered), first.images, rows, time.monotonic() - began)


@dataclass(frozen=True)
class _Shard:
    file: Path
    manifest: ShardManifest


def _changed(file: Path) -> StorageError:
    return StorageError(
        f"{file} was changed since, or is damaged",
        f"Remove {file.name} and {manifest_of(file).name}, and make it again.",
    )


def _shards_of(whole: Path) -> list[Path]:
    """Return the shards of a file, by their names."""
    with storage_errors(whole.parent):
        names = sorted(entry.name for entry in os.scandir(whole.parent))
    files = [
        whole.parent / name
        for name in names
        if (shard := named_shard(Path(name))) and shard.file(whole).name == name
    ]
    if not files:
        name = Shard(1, 3).file(whole).name
        raise RecipeError(f"{whole} has no shards, which are called {name} and so on")
    return files


def _complete(files: Sequence[Path], *, by_name: bool) -> list[_Shard]:
    """Return all shards in order; raise for foreign or missing ones."""
    # An unfinished shard counts as missing.
    finished = [file for file in files if not by_name or manifest_of(file).exists()] or files
    shards = [_Shard(file, ShardManifest.read(file)) for file in finished]
    by_part: dict[Shard, _Shard] = {}
    for shard in shards:
        part = shard.manifest.part
        if difference := shards[0].manifest.difference(shard.manifest):
            raise RecipeError(
                f"{shard.file.name} was made with another {difference} than {shards[0].file.name}",
                "Make those anew that are wrong, or move them away.",
            )
        if part in by_part:
            raise RecipeError(
                f"{by_part[part].file} and {shard.file} are both shard {part}", "Leave one out."
            )
        by_part[part] = shard
    count = shards[0].manifest.shards
    wanted = [Shard(number, count) for number in range(1, count + 1)]
    if missing := [part for part in wanted if part not in by_part]:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise RecipeError(
            f"Of {count:,} shards {counted(len(missing), 'is', 'are')} missing: "
            f"{', '.join(map(str, missing[:_NAMED]))}{more}",
            "Make them with --shard; nothing was written.",
        )
    return [by_part[part] for part in wanted]


def _join_lines(shards: Sequence[_Shard], path: Path, watcher: Watcher) -> None:
    """Join rows of JSON or CSV: these after each other, with the first one's heading."""
    done = 0
    with path.open("wb") as target:
        for number, shard in enumerate(shards):
            with storage_errors(shard.file), open_regular(shard.file) as source:
                if shard.file.suffix.lower() == ".csv":
                    heading = source.readline(_BLOCK)
                    target.write(heading if number == 0 else b"")
                shutil.copyfileobj(source, target, _BLOCK)
            done += shard.manifest.rows
            watcher.advance(done)


def _join_tables(shards: Sequence[_Shard], path: Path, watcher: Watcher) -> None:
    """Join Parquet files of answers."""
    _, parquet = load_pyarrow()
    done, schema = 0, parquet.read_schema(shards[0].file)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for shard in shards:
            with parquet.ParquetFile(shard.file) as table:
                for batch in table.iter_batches():
                    writer.write_batch(batch)
            done += shard.manifest.rows
            watcher.advance(done)


def _join_arrays(shards: Sequence[_Shard], path: Path, watcher: Watcher) -> None:
    """Join files of features, array by array."""
    first, rows = shards[0].manifest, sum(shard.manifest.rows for shard in shards)
    classes = first.options["classes"]
    about = {"opsin": first.opsin, "source": first.summary["source"], **first.options}
    del about["classes"]
    about["unreadable"] = [
        name for shard in shards for name in shard.manifest.summary["unreadable"]
    ]
    headers = []
    for shard in shards:
        with StoredArrays(shard.file) as arrays:
            headers.append({name: arrays.stated(name) for name in arrays.names})

    def joined(name: str) -> Iterator[NDArray[Any]]:
        stated = [header[name] for header in headers if name in header]
        kind = max((array.dtype for array in stated), key=lambda dtype: dtype.itemsize)
        yield np.empty((0, *stated[0].shape[1:]), kind)
        for shard, header in zip(shards, headers, strict=True):
            if name not in header:  # no image of it is in a part
                yield np.zeros(shard.manifest.rows, kind)
                continue
            with StoredArrays(shard.file) as arrays:
                yield from (block.astype(kind) for block in arrays.blocks(name, _ROWS))

    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        add_array(archive, "about", [np.array(json.dumps(about, ensure_ascii=True))])
        for name in ("features", "names", "digests", "parts", "labels"):
            if any(name in header for header in headers):
                add_array(archive, name, joined(name), rows)
        if classes is not None:
            add_array(archive, "classes", [np.array(classes)])
    watcher.advance(rows)
