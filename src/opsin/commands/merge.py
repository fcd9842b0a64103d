"""The verb `merge`: shards become the file that one command would have written."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsin.commands.classify.results import GROUP, PARQUET_KEY, load_pyarrow, made_of, write_tables
from opsin.commands.feature_file import (
    PARTS,
    FeatureRow,
    FeatureRows,
    as_arrow_text,
    check_feature_file,
)
from opsin.commands.shard_manifest import ShardManifest, manifest_of
from opsin.commands.stored_shards import fetched_shards
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.regular_file import open_regular
from opsin.core.storage import atomic_file, storage_errors
from opsin.core.stored_arrays import StoredArrays
from opsin.core.stored_json import JsonObject
from opsin.data.shard import Shard, whole_file
from opsin.stores.store_address import StoreAddress, is_stored

# Bytes that are copied at once, and rows of features.
_BLOCK: Final = 1 << 20
_ROWS: Final = 1024
# Shards that an error names.
_NAMED: Final = 5


@dataclass(frozen=True)
class Merged:
    """What `merge` wrote.

    Args:
        out: The file.
        verb: The command whose file it is: ``predict`` or ``embed``.
        shards: How many shards it was made of.
        images: Images of the source.
        rows: Rows in the file.
        seconds: How long it took.
    """

    out: Path | StoreAddress
    verb: str
    shards: int
    images: int
    rows: int
    seconds: float

    def to_json(self) -> JsonObject:
        """Return everything as ``--json`` prints it."""
        return asdict(self) | {"out": str(self.out)}


@checked
def merge(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Merged:
    """Join the shards of a file, in any order; the same bytes as made in one go.

    Args:
        shards: All shards, or the name that they were given: ``answers.csv`` stands for
            ``answers-00001-of-00003.csv`` and so on. Those on an object store (``s3://…``) are
            fetched, and joined here.
        out: The new file (default: that name).
        watcher: Receives progress and notes.

    Raises:
        RecipeError: Shards are missing, there twice, not finished, or of different models, images
            or options; all that are missing are named.
        StorageError: A shard was changed since, the file is there already, or the disk refuses it.

    Example:
        >>> merged = merge("answers.csv")                             # doctest: +SKIP
        >>> merge(["a-00001-of-00002.npz", "a-00002-of-00002.npz"])   # doctest: +SKIP
    """
    began = time.monotonic()
    given = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    if any(map(is_stored, given)):
        with fetched_shards(given, out, watcher) as (copies, place):
            done = merge(copies, out=place.path, watcher=place.watcher(watcher))
        return replace(done, out=place.shown, seconds=time.monotonic() - began)
    if out is not None and is_stored(out):
        raise RecipeError(
            "a file, for shards in files", f"got {out}", "Merge here, then copy it there."
        )
    files = _found([Path(each) for each in given])
    manifests = [ShardManifest.read(file) for file in files]
    ordered = _checked(files, manifests, watcher)
    path = _place(Path(out) if out is not None else whole_file(files[0]), ordered[0].file)
    rows = sum(each.manifest.rows for each in ordered)
    watcher.begin("Merge", rows, "rows")
    first = ordered[0].manifest
    if first.verb == "embed":
        _join_features(ordered, path, watcher)
    elif path.suffix.lower() == ".parquet":
        _join_tables(ordered, path, watcher)
    else:
        _join_lines(ordered, path, watcher)
    watcher.end()
    return Merged(path, first.verb, len(ordered), first.images, rows, time.monotonic() - began)


@dataclass(frozen=True)
class _Finished:
    """A shard's file, and what it says of itself."""

    file: Path
    manifest: ShardManifest


def _found(given: Sequence[Path]) -> list[Path]:
    """Return the shards: those given, or those of the one name given."""
    if not given or not all(each.name for each in given):
        raise RecipeError("shards to merge", "got none", "Give them, or the name they share.")
    if len(given) > 1 or manifest_of(given[0]).exists():
        return list(given)
    whole = given[0]
    pattern = re.compile(
        rf"{re.escape(whole.stem)}-\d{{5,6}}-of-\d{{5,6}}{re.escape(whole.suffix)}"
    )
    folder = whole.parent
    with storage_errors(folder):
        names = sorted(entry.name for entry in os.scandir(folder) if pattern.fullmatch(entry.name))
    if not names:
        raise RecipeError(
            "shards to merge",
            f"there is none of {whole}",
            f"They are called {Shard(1, 3).file(whole).name} and so on.",
        )
    return [folder / name for name in names]


def _checked(
    files: Sequence[Path], manifests: Sequence[ShardManifest], watcher: Watcher
) -> list[_Finished]:
    """Return all shards in their order.

    Raises:
        RecipeError: They do not belong together, or are not all.
    """
    first = manifests[0]
    by_number: dict[int, _Finished] = {}
    for file, manifest in zip(files, manifests, strict=True):
        other = _difference(first, manifest)
        if other:
            raise RecipeError(
                "shards of the same model, images and options",
                f"{file.name} was made with another {other} than {files[0].name}",
                "Make those anew that are wrong.",
            )
        if manifest.shard in by_number:
            raise RecipeError(
                "each shard once",
                f"{by_number[manifest.shard].file} and {file} are both {manifest.part}",
                "Leave one out.",
            )
        by_number[manifest.shard] = _Finished(file, manifest)
    missing = [number for number in range(1, first.shards + 1) if number not in by_number]
    if missing:
        named = ", ".join(f"{number}/{first.shards}" for number in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise RecipeError(
            f"all {first.shards:,} shards",
            f"{counted(len(missing), 'is', 'are')} missing: {named}{more}",
            "Make them with --shard; nothing was written.",
        )
    versions = sorted({manifest.opsin for manifest in manifests})
    if len(versions) > 1:
        watcher.note(f"they were made by several versions of Opsin: {', '.join(versions)}")
    return [by_number[number] for number in sorted(by_number)]


def _difference(one: ShardManifest, other: ShardManifest) -> str:
    """Return in which way two shards do not belong together; empty where they do."""
    if one.verb != other.verb:
        return "command"
    if one.shards != other.shards:
        return "number of shards"
    if (one.images, one.inputs) != (other.images, other.inputs):
        return "list of images"
    names = {**one.options, **other.options}
    different = (name for name in names if one.options.get(name) != other.options.get(name))
    return next(different, "").removeprefix("the ")


def _place(path: Path | None, shard: Path) -> Path:
    """Return where the merged file goes.

    Raises:
        RecipeError: It is not said, or is of another form.
        StorageError: It is there already.
    """
    if path is None:
        raise RecipeError(
            "a name for the merged file", f"{shard.name} does not tell it", "Give --out FILE."
        )
    if path.suffix.lower() != shard.suffix.lower():
        raise RecipeError(
            f"a file name that ends in {shard.suffix}, as the shards' do",
            f"got {path.name!r}",
            "Give another name.",
        )
    with storage_errors(path):
        if path.exists() or path.is_symlink():
            raise StorageError("a new file", f"{path} is there already", "Give another: --out.")
    return path


def _join_lines(shards: Sequence[_Finished], path: Path, watcher: Watcher) -> None:
    """Join rows of JSON or CSV: these after each other, with the first one's heading."""
    done = 0
    with atomic_file(path) as temporary, temporary.open("wb") as target:
        for number, shard in enumerate(shards):
            digest = hashlib.sha256()
            with storage_errors(shard.file), open_regular(shard.file) as source:
                if path.suffix.lower() == ".csv":
                    heading = source.readline(_BLOCK)
                    digest.update(heading)
                    target.write(heading if number == 0 else b"")
                while block := source.read(_BLOCK):
                    digest.update(block)
                    target.write(block)
            _check(shard, digest.hexdigest())
            done += shard.manifest.rows
            watcher.advance(done)


def _join_tables(shards: Sequence[_Finished], path: Path, watcher: Watcher) -> None:
    """Join Parquet files of answers."""
    arrow, parquet = load_pyarrow()
    size = 0
    for shard in shards:
        _check(shard, _digest_of(shard.file))
        try:
            schema = parquet.read_schema(shard.file)
            made, own, _ = made_of(schema.metadata)
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise _changed(shard.file) from error
        size += own
    whole = schema.with_metadata({PARQUET_KEY: f"{made} {size} 0".encode()})

    def tables() -> Iterator[Any]:
        waiting, rows, done = [], 0, 0
        for batch in itertools.chain.from_iterable(_batches(shard.file) for shard in shards):
            waiting.append(batch)
            rows += batch.num_rows
            while rows >= GROUP:
                table = arrow.Table.from_batches(waiting).cast(whole).combine_chunks()
                yield table.slice(0, GROUP).combine_chunks()
                waiting = table.slice(GROUP).to_batches()
                rows -= GROUP
                done += GROUP
                watcher.advance(done)
        if rows:
            yield arrow.Table.from_batches(waiting).cast(whole).combine_chunks()

    write_tables(path, whole, tables())


def _batches(file: Path) -> Iterator[Any]:
    """Yield the rows of a Parquet file, some at a time; it is closed before the next is opened."""
    _, parquet = load_pyarrow()
    with parquet.ParquetFile(file) as opened:
        yield from opened.iter_batches(GROUP)


def _join_features(shards: Sequence[_Finished], path: Path, watcher: Watcher) -> None:
    """Join files of features."""
    check_feature_file(path)
    first = shards[0].manifest
    options: dict[str, Any] = dict(first.options)
    units, classes = options["units"], options.pop("classes")
    unreadable = [name for shard in shards for name in _unreadable(shard.manifest)]
    about = {"opsin": first.opsin, "source": first.summary["source"], **options}
    read = _rows_of_arrays if path.suffix.lower() == ".npz" else _rows_of_table
    names = None if classes is None else tuple(classes)
    with FeatureRows(path, sum(units)) as rows:
        for shard in shards:
            _check(shard, _digest_of(shard.file))
            for row in read(shard.file, names):
                rows.add(row)
            watcher.advance(rows.count)
        rows.finish(about | {"unreadable": unreadable}, names)


def _unreadable(manifest: ShardManifest) -> list[Any]:
    found: Any = manifest.summary["unreadable"]
    return list(found)


def _rows_of_arrays(file: Path, classes: tuple[str, ...] | None) -> Iterator[FeatureRow]:
    """Yield the rows of a shard in ``.npz`` form."""
    try:
        with StoredArrays(file) as arrays:
            names = iter(arrays.blocks("names", _ROWS))
            digests = iter(arrays.blocks("digests", _ROWS))
            labels = iter(arrays.blocks("labels", _ROWS)) if classes is not None else None
            parts = iter(arrays.blocks("parts", _ROWS)) if "parts" in arrays else None
            for features in arrays.blocks("features", _ROWS):
                block = (next(names), next(digests))
                label = np.full(len(features), -1) if labels is None else next(labels)
                part = np.full(len(features), "") if parts is None else next(parts)
                for row, each in enumerate(features):
                    yield FeatureRow(
                        str(block[0][row]),
                        int(label[row]),
                        PARTS.index(str(part[row])),
                        block[1][row].tobytes(),
                        each,
                    )
    except (ValueError, KeyError, StopIteration) as error:
        raise _changed(file) from error


def _rows_of_table(file: Path, classes: tuple[str, ...] | None) -> Iterator[FeatureRow]:
    """Yield the rows of a shard in Parquet form."""
    arrow, parquet = load_pyarrow()
    numbers: Mapping[str | None, int] = {
        None: -1, **{as_arrow_text(name): number for number, name in enumerate(classes or ())}
    }  # fmt: skip
    try:
        for batch in parquet.ParquetFile(file).iter_batches(_ROWS):
            features = batch.column("features").flatten().to_numpy().reshape(len(batch), -1)
            columns = batch.drop_columns(["features"]).to_pylist()
            for each, row in zip(columns, features, strict=True):
                yield FeatureRow(
                    each["name"],
                    numbers[each.get("label")],
                    PARTS.index(each.get("part") or ""),
                    bytes.fromhex(each["digest"]),
                    row,
                )
    except (arrow.ArrowException, ValueError, KeyError) as error:
        raise _changed(file) from error


def _digest_of(file: Path) -> str:
    with storage_errors(file), open_regular(file) as stream:
        digest = hashlib.sha256()
        while block := stream.read(_BLOCK):
            digest.update(block)
        return digest.hexdigest()


def _check(shard: _Finished, digest: str) -> None:
    if digest != shard.manifest.sha256:
        raise _changed(shard.file)


def _changed(file: Path) -> StorageError:
    return StorageError(
        "shards as they were made",
        f"{file} was changed since, or is damaged",
        f"Remove {manifest_of(file).name} and make it again.",
    )
