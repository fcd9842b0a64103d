"""How the files of shards become one."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from opsin.commands.labelled_rows import join_labelled, write_labelled
from opsin.commands.shard_manifest import FinishedShard, ShardManifest, ShardTask, manifest_of
from opsin.core.errors import StorageError
from opsin.core.events import Watcher
from opsin.core.regular_file import open_regular
from opsin.core.storage import atomic_file, scratch_directory, storage_errors
from opsin.core.stored_arrays import StoredArrays
from opsin.data.shard import Shard, ShardInputs

# Bytes that are copied at once, and rows of features.
_BLOCK: Final = 1 << 20
_ROWS: Final = 1024
# Of what manifests say of shards: what is added up.
_ADDED: Final = ("images", "answered", "refused", "left_out", "unreadable", "answers")


def join_shards(
    shards: Sequence[FinishedShard], path: Path, *, whole: bool, watcher: Watcher
) -> None:
    """Write the file that one command would have written.

    Args:
        shards: All shards of it, in their order.
        path: The file.
        whole: Whether it is all of the source; else it is a larger shard.
        watcher: Receives the progress.

    Raises:
        StorageError: A shard was changed since, or the disk refuses the write.
    """
    if shards[0].manifest.reports:
        _join_labelled(shards, path, whole=whole, watcher=watcher)
    elif shards[0].manifest.verb == "embed":
        _join_features(shards, path, watcher)
    elif path.suffix.lower() == ".parquet":
        _join_tables(shards, path, watcher)
    else:
        _join_lines(shards, path, watcher)


def joined_manifest(shards: Sequence[FinishedShard], path: Path, part: Shard) -> None:
    """Write the manifest of a shard that smaller ones were joined to.

    Args:
        shards: The smaller ones.
        path: Its file.
        part: Which shard it is.

    Raises:
        StorageError: The disk refuses the write.
    """
    first = shards[0].manifest
    inputs = ShardInputs(part, first.images, first.inputs)
    said = [shard.manifest.summary for shard in shards]
    ShardTask(first.verb, inputs, first.options, path).finish(
        path,
        sum(shard.manifest.rows for shard in shards),
        {name: _added([each[name] for each in said]) if name in _ADDED else value
         for name, value in said[0].items()},
        opsin=", ".join(sorted({shard.manifest.opsin for shard in shards})),
    )  # fmt: skip


def _added(values: Sequence[Any]) -> Any:
    """Add numbers up, and counts by name; put lists behind each other."""
    if isinstance(values[0], list):
        return list(itertools.chain.from_iterable(values))
    if isinstance(values[0], dict):
        counts: Counter[str] = Counter()
        for each in values:
            counts.update(each)
        return dict(counts.most_common())
    return sum(values)


def _join_labelled(
    shards: Sequence[FinishedShard], path: Path, *, whole: bool, watcher: Watcher
) -> None:
    """Join decoded images, and judge them where these are all."""
    from opsin.commands.audit_shard import join_audit  # noqa: PLC0415  what few merge
    from opsin.commands.data import write_findings  # noqa: PLC0415  needs matplotlib
    from opsin.commands.evaluate import write_figures  # noqa: PLC0415  scipy takes a second to load
    from opsin.commands.evaluate_shard import join_evaluation  # noqa: PLC0415

    for shard in shards:
        _check(shard, _digest_of(shard.file))
    manifests = [shard.manifest for shard in shards]
    with scratch_directory(path.parent) as scratch:
        try:
            rows = join_labelled([shard.file for shard in shards], scratch)
        except (ValueError, KeyError) as error:
            raise _changed(shards[0].file) from error
        watcher.advance(len(rows.found))
        if not whole:
            write_labelled(path, rows)
        elif manifests[0].verb == "audit":
            write_findings(join_audit(manifests, rows, watcher), path)
        else:
            write_figures(join_evaluation(manifests, rows, watcher), path)
        del rows  # some systems remove no file that is mapped


def _join_lines(shards: Sequence[FinishedShard], path: Path, watcher: Watcher) -> None:
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


def _join_tables(shards: Sequence[FinishedShard], path: Path, watcher: Watcher) -> None:
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


def _join_features(shards: Sequence[FinishedShard], path: Path, watcher: Watcher) -> None:
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


def _check(shard: FinishedShard, digest: str) -> None:
    if digest != shard.manifest.sha256:
        raise _changed(shard.file)


def _changed(file: Path) -> StorageError:
    return StorageError(
        "shards as they were made",
        f"{file} was changed since, or is damaged",
        f"Remove {file.name} and {manifest_of(file).name}, and make it again.",
    )
