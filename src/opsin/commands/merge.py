"""The verb `merge`: shards become the file that one command would have written."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from opsin.commands.feature_file import (
    PARTS,
    FeatureRow,
    FeatureRows,
    check_feature_file,
)
from opsin.commands.out_file import ShardManifest, manifest_of
from opsin.commands.predict.rows import GROUP, as_arrow, load_pyarrow, write_groups
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import open_regular
from opsin.core.format import counted
from opsin.core.storage import atomic_file, storage_errors
from opsin.core.stored_arrays import StoredArrays
from opsin.core.stored_json import JsonObject
from opsin.data.shard import Shard, named_shard, whole_file
from opsin.stores.store_address import is_stored

# Bytes that are copied at once, rows of features, and missing shards that an error names.
_BLOCK: Final = 1 << 20
_ROWS: Final = 1024
_NAMED: Final = 5


@dataclass(frozen=True)
class Merged:
    """What `merge` wrote.

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
    """Join the shards of a file, in any order; the same bytes as made in one go.

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
    given = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    for each in (*given, *([] if out is None else [out])):
        if is_stored(each):
            raise RecipeError("shards on this machine", f"got {each}", "Copy all of them here.")
    files = [Path(each) for each in given]
    if not files or not all(file.name for file in files):
        raise RecipeError("shards to merge", "got none", "Give them, or the name they share.")
    by_name = len(files) == 1 and not manifest_of(files[0]).exists()
    whole = Path(out) if out is not None else files[0] if by_name else whole_file(files[0])
    ordered = _complete(_named(files[0]) if by_name else files, by_name=by_name)
    ending = ordered[0].file.suffix.lower()
    if whole is None:
        raise RecipeError(
            "a name for the merged file",
            f"{ordered[0].file.name} does not tell it",
            "Give --out FILE.",
        )
    if whole.suffix.lower() != ending:
        raise RecipeError(
            f"a file name that ends in {ending}", f"got {whole.name!r}", "Give another name."
        )
    with storage_errors(whole):
        if whole.exists() or whole.is_symlink():
            raise StorageError("a new file", f"{whole} is there already", "Give another: --out.")
    versions = sorted({shard.manifest.opsin for shard in ordered})
    if len(versions) > 1:
        watcher.note(f"they were made by several versions of Opsin: {', '.join(versions)}")
    first, rows = ordered[0].manifest, sum(shard.manifest.rows for shard in ordered)
    watcher.begin("Merge", rows, "rows")
    for shard in ordered:
        shard.check()
    if first.verb == "embed":
        _join_features(ordered, whole, watcher)
    elif ending == ".parquet":
        _join_tables(ordered, whole, watcher)
    else:
        _join_lines(ordered, whole, watcher)
    watcher.end()
    return Merged(whole, first.verb, len(ordered), first.images, rows, time.monotonic() - began)


@dataclass(frozen=True)
class _Shard:
    """A shard's file, and what it says of itself."""

    file: Path
    manifest: ShardManifest

    def check(self) -> None:
        """Refuse a file that is not as it was made."""
        with storage_errors(self.file), open_regular(self.file) as stream:
            digest = hashlib.sha256()
            while block := stream.read(_BLOCK):
                digest.update(block)
        if digest.hexdigest() != self.manifest.sha256:
            raise self.changed()

    def changed(self) -> StorageError:
        """The error for a file that is not as it was made."""
        return StorageError(
            "shards as they were made",
            f"{self.file} was changed since, or is damaged",
            f"Remove {self.file.name} and {manifest_of(self.file).name}, and make it again.",
        )


def _named(whole: Path) -> list[Path]:
    """The files that are shards of another by their names."""
    with storage_errors(whole.parent):
        names = sorted(entry.name for entry in os.scandir(whole.parent))
    files = [
        whole.parent / name
        for name in names
        if (shard := named_shard(Path(name))) and shard.file(whole).name == name
    ]
    if not files:
        raise RecipeError(
            "shards to merge",
            f"there is none of {whole}",
            f"They are called {Shard(1, 3).file(whole).name} and so on.",
        )
    return files


def _complete(files: Sequence[Path], *, by_name: bool) -> list[_Shard]:
    """Return all shards of a whole, in their order; refuse others, and name those missing."""
    found: dict[Shard, _Shard] = {}
    # Of those that share a name, one that is not finished is as good as missing.
    finished = [file for file in files if not by_name or manifest_of(file).exists()] or files
    shards = [_Shard(file, ShardManifest.read(file)) for file in finished]
    for shard in shards:
        part = shard.manifest.part
        if difference := shards[0].manifest.difference(shard.manifest):
            raise RecipeError(
                "shards of the same model, images and options",
                f"{shard.file.name} was made with another {difference} than {shards[0].file.name}",
                "Make those anew that are wrong, or move them away.",
            )
        if part in found:
            raise RecipeError(
                "each shard once",
                f"{found[part].file} and {shard.file} are both {part}",
                "Leave one out.",
            )
        if by_name and part != named_shard(shard.file):
            raise RecipeError(
                f"{shard.file.name} to be the shard that its name says",
                f"it is {part}",
                "Make it again.",
            )
        found[part] = shard
    counts = sorted({part.count for part in found})
    if len(counts) > 1:
        raise RecipeError(
            "shards of one number",
            f"got some of {' and '.join(map(str, counts))}",
            "Leave out those of another number.",
        )
    wanted = [Shard(number, counts[0]) for number in range(1, counts[0] + 1)]
    if missing := [part for part in wanted if part not in found]:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise RecipeError(
            f"all {len(wanted):,} shards",
            f"{counted(len(missing), 'is', 'are')} missing: "
            f"{', '.join(map(str, missing[:_NAMED]))}{more}",
            "Make them with --shard; nothing was written.",
        )
    return [found[part] for part in wanted]


def _join_lines(shards: Sequence[_Shard], path: Path, watcher: Watcher) -> None:
    """Join rows of JSON or CSV: these after each other, with the first one's heading."""
    done = 0
    with atomic_file(path) as temporary, temporary.open("wb") as target:
        for number, shard in enumerate(shards):
            with storage_errors(shard.file), open_regular(shard.file) as source:
                if path.suffix.lower() == ".csv":
                    heading = source.readline(_BLOCK)
                    target.write(heading if number == 0 else b"")
                shutil.copyfileobj(source, target, _BLOCK)
            done += shard.manifest.rows
            watcher.advance(done)


def _join_tables(shards: Sequence[_Shard], path: Path, watcher: Watcher) -> None:
    """Join Parquet files of answers, in groups of as many rows as one file has."""
    arrow, parquet = load_pyarrow()

    def tables() -> Iterator[Any]:
        waiting, done = schema.empty_table(), 0
        for shard in shards:
            with parquet.ParquetFile(shard.file) as opened:
                for batch in opened.iter_batches(GROUP):
                    more = arrow.Table.from_batches([batch])
                    waiting = arrow.concat_tables([waiting, more]).combine_chunks()
                    while len(waiting) >= GROUP:
                        yield waiting.slice(0, GROUP).combine_chunks()
                        waiting = waiting.slice(GROUP).combine_chunks()
                        done += GROUP
                        watcher.advance(done)
        if len(waiting):
            yield waiting

    try:
        schema = parquet.read_schema(shards[0].file)
    except (arrow.ArrowException, OSError) as error:
        raise shards[0].changed() from error
    with atomic_file(path) as temporary:
        write_groups(temporary, schema, tables())


def _join_features(shards: Sequence[_Shard], path: Path, watcher: Watcher) -> None:
    """Join files of features."""
    check_feature_file(path)
    first = shards[0].manifest
    options: dict[str, Any] = dict(first.options)
    units, classes = options["units"], options.pop("classes")
    unreadable = [name for shard in shards for name in shard.manifest.summary["unreadable"]]
    about = {"opsin": first.opsin, "source": first.summary["source"], **options}
    read = _rows_of_arrays if path.suffix.lower() == ".npz" else _rows_of_table
    names = None if classes is None else tuple(classes)
    with FeatureRows(path, sum(units)) as rows:
        for shard in shards:
            for row in read(shard, names):
                rows.add(row)
            watcher.advance(rows.count)
        rows.finish(about | {"unreadable": unreadable}, names)


def _rows_of_arrays(shard: _Shard, classes: tuple[str, ...] | None) -> Iterator[FeatureRow]:
    """Yield the rows of a shard in ``.npz`` form."""
    try:
        with StoredArrays(shard.file) as arrays:

            def blocks(name: str, missing: object) -> Iterator[Any]:
                if name in arrays:
                    return iter(arrays.blocks(name, _ROWS))
                return itertools.repeat([missing] * _ROWS)

            columns = zip(
                arrays.blocks("features", _ROWS),
                arrays.blocks("names", _ROWS),
                arrays.blocks("digests", _ROWS),
                blocks("labels" if classes is not None else "", -1),
                blocks("parts", ""),
                strict=False,
            )
            for features, names, digests, labels, parts in columns:
                for row, each in enumerate(features):
                    part = PARTS.index(str(parts[row]))
                    digest = digests[row].tobytes()
                    yield FeatureRow(str(names[row]), int(labels[row]), part, digest, each)
    except (ValueError, KeyError, IndexError) as error:
        raise shard.changed() from error


def _rows_of_table(shard: _Shard, classes: tuple[str, ...] | None) -> Iterator[FeatureRow]:
    """Yield the rows of a shard in Parquet form."""
    arrow, parquet = load_pyarrow()
    numbers: Mapping[str | None, int] = {
        None: -1, **{as_arrow(name): number for number, name in enumerate(classes or ())}
    }  # fmt: skip
    try:
        for batch in parquet.ParquetFile(shard.file).iter_batches(_ROWS):
            features = batch.column("features").flatten().to_numpy().reshape(len(batch), -1)
            columns = batch.drop_columns(["features"]).to_pylist()
            for each, row in zip(columns, features, strict=True):
                part = PARTS.index(each.get("part") or "")
                digest = bytes.fromhex(each["digest"])
                label = numbers[each.get("label")]
                yield FeatureRow(each["name"], label, part, digest, np.asarray(row))
    except (arrow.ArrowException, ValueError, KeyError) as error:
        raise shard.changed() from error
