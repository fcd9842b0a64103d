"""Output files of verbs: local, on a store, in shards; and shards merged into one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from opsin.commands.predict import answers_file
from opsin.commands.predict.rows import RowFormat
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.files import legal_name, open_regular, state_root
from opsin.core.format import counted
from opsin.core.metadata import MAX_CLASSES
from opsin.core.storage import atomic_file, check_new_file, storage_errors, write_json
from opsin.core.stored_json import JsonObject
from opsin.data.image_stream import Shard, ShardInputs, shard_of_file
from opsin.data.split import UNASSIGNED
from opsin.stores.bucket import (
    ADDRESSES,
    AZURE_ACCOUNT,
    StoreAddress,
    StoredObject,
    is_stored,
    open_bucket,
    said_as,
)

#: What a shard's file ends in, behind the name of the whole.
SHARD: Final = ".sqlite"
# Facts of a shard's work: its number; images and SHA-256 of their names.
_PART, _COUNT, _INPUTS = "the shard", "the number of images", "the list of images"
# Missing shards that an error names.
_NAMED: Final = 5
# Names of the parts of a split, by their codes; bytes of features per block.
_PARTS: Final = ("", "train", "val", "test")
_BLOCK: Final = 1 << 22


@dataclass(frozen=True)
class OutFile:
    """The target of ``--out``: a file, a shard, or a local file, uploaded whole as an object."""

    path: Path
    database: Path
    address: StoreAddress | None = None

    @classmethod
    def read(cls, out: str | os.PathLike[str], shard: Shard | None = None) -> OutFile:
        """Read ``--out``; a shard gets its own file beside it."""
        if not is_stored(out):
            if not Path(out).name:
                raise RecipeError(f"{out} names no file", "Give one: --out answers.csv")
            if shard is None:
                return cls(Path(out), answers_file.database_beside(Path(out)))
            path = shard.file(Path(out))
            path = path.with_name(path.name + SHARD)
            return cls(path, path)
        address = StoreAddress.read(out)
        if shard is not None:
            raise RecipeError(f"A shard is a file, and {out} is on a store", "Copy it there later.")
        # The same address means another object on another store.
        settings = ADDRESSES[address.store] + ((AZURE_ACCOUNT,) if address.store == "az" else ())
        known = repr((str(address), [*map(os.environ.get, settings)]))
        folder = state_root() / "stored" / hashlib.sha256(known.encode()).hexdigest()[:32]
        path = folder / legal_name(address.name)
        return cls(path, answers_file.database_beside(path), address)

    @property
    def shown(self) -> Path | StoreAddress:
        """The path or address to show."""
        return self.path if self.address is None else self.address

    def errors(self) -> AbstractContextManager[None]:
        """Let the errors of a block name the object."""
        return nullcontext() if self.address is None else said_as(self.path, self.address)

    def claim(self) -> StoredObject | None:
        """Return the existing object; raise `StorageError` if this account did not make it."""
        if self.address is None:
            return None
        bucket = open_bucket(self.address)
        there = bucket.find(self.address.key)
        if there is None or there.version == self._record().get("version"):
            return there
        # Perhaps the command was killed right after it had made the object.
        if self.path.is_file() and bucket.sent(there.key, _digest_of(self.path)) is not None:
            return there
        raise StorageError(f"{self.address} is there already", "Choose another name with --out.")

    def publish(self, there: StoredObject | None, *, keep: bool = False) -> None:
        """Upload the object; ``keep`` the local file to resume later."""
        if self.address is None:
            return
        digest = _digest_of(self.path)
        if there is None or self._record().get("sha256") != digest:
            made = open_bucket(self.address).write(self.address.key, self.path, there, digest)
            if keep:
                record = {"version": made.version, "sha256": digest}
                write_json(self.path.with_name(".stored.json"), record)
        if not keep:
            shutil.rmtree(self.path.parent, ignore_errors=True)

    def _record(self) -> dict[str, str]:
        try:
            record = json.loads(self.path.with_name(".stored.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def _digest_of(file: Path) -> str:
    with storage_errors(file), open_regular(file) as stream:
        content: Any = stream
        return hashlib.file_digest(content, "sha256").hexdigest()


def shard_facts(inputs: ShardInputs | None) -> JsonObject:
    """Return which shard of which images an answers file is."""
    if inputs is None:
        return {}
    return {_INPUTS: inputs.fingerprint[:16], _COUNT: inputs.images, _PART: str(inputs.shard)}


class Merged(BaseModel, frozen=True):
    """The result of `merge`."""

    out: Path  #: The file
    verb: str  #: The command whose file it is: ``predict`` or ``embed``
    shards: int  #: How many shards it was made of
    images: int  #: Images of the source
    rows: int  #: Rows of these shards
    seconds: float  #: How long it took


@checked
def merge(
    whole: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
) -> Merged:
    """Write the rows of all shards into one file, as if made in one go.

    Args:
        whole: The name that the shards were given: beside ``answers.csv`` lie
            ``answers-00001-of-00003.csv.sqlite`` and so on; or the name of one of them.
        out: The new file (default: that name).
        watcher: Receives progress and notes.

    Raises:
        RecipeError: Shards are missing, not finished, or of different models, images or options.
            All that are missing are named.
        StorageError: A shard is damaged, the file is there already, or the disk refuses it.

    Example:
        >>> merged = merge("answers.csv")  # doctest: +SKIP
    """
    began = time.monotonic()
    for name in (whole, out or whole):
        if is_stored(name) or not Path(name).name:
            raise RecipeError(f"{name} is no file of this machine", "Copy all shards here.")
    whole = Path(whole)
    if whole.suffix == SHARD:  # the name of a shard, completed by a shell
        whole = (shard_of_file(whole.with_suffix("")) or [whole])[0]
    target, shards = Path(out or whole), _shards_of(whole)
    about, rows = shards[0].about, sum(shard.about.rows or 0 for shard in shards)
    is_embedding = "units" in about.begun
    check_new_file(target, ".npz" if is_embedding else target.suffix.lower())
    watcher.begin("Merge", rows, "rows")
    try:
        if is_embedding:
            write: answers_file.Write = partial(write_features, about=about)
        else:
            write = RowFormat(target, min(int(about.begun["top"]), MAX_CLASSES)).write
        with atomic_file(target) as temporary:
            write(temporary, lambda: _rows_of(shards, watcher))
        images = int(about.begun[_COUNT])
    except answers_file.UNSOUND as error:
        raise _changed(shards[0].file) from error
    watcher.end()
    verb, seconds = "embed" if is_embedding else "predict", time.monotonic() - began
    return Merged(
        out=target, verb=verb, shards=len(shards), images=images, rows=rows, seconds=seconds
    )


class _Shard(NamedTuple):
    file: Path
    about: answers_file.About


def _changed(file: Path) -> StorageError:
    return StorageError(
        f"{file} was changed since, or is damaged", f"Remove {file.name}, and make it again."
    )


def _shards_of(whole: Path) -> list[_Shard]:
    """Return the finished shards of a file in order; raise for foreign or missing ones."""
    with storage_errors(whole.parent):
        names = sorted(entry.name for entry in os.scandir(whole.parent))
    by_part: dict[Shard, _Shard] = {}
    for file in (whole.parent / name for name in names if name.endswith(SHARD)):
        found = shard_of_file(file.with_suffix(""))
        if found is None or OutFile.read(whole, found[1]).path != file:
            continue
        if file.is_symlink() or file.lstat().st_nlink > 1:
            raise RecipeError(f"{file} is a link", "Copy the shard itself here.")
        try:
            db, about = answers_file.open_answers(file, writable=False)
            db.close()
        except (OSError, sqlite3.Error) as error:
            reason = str(getattr(error, "strerror", None) or error).lower()
            raise StorageError(f"Cannot read {file}: {reason}", "Check its rights.") from error
        except RecipeError as error:
            if os.path.lexists(f"{file}-wal"):
                continue  # being made, or killed while it was
            raise _changed(file) from error
        first = next(iter(by_part.values()), _Shard(file, about))
        if difference := _difference(first.about.begun, about.begun):
            raise RecipeError(
                f"{file.name} was made with another {difference} than {first.file.name}",
                "Make those anew that are wrong, or move them away.",
            )
        if about.begun.get(_PART) != str(found[1]):
            raise _changed(file)
        by_part[found[1]] = _Shard(file, about)
    if not by_part:
        name = OutFile.read(whole, Shard(1, 3)).path.name
        raise RecipeError(f"{whole} has no shards, which are called {name} and so on")
    count = next(iter(by_part)).count
    wanted = [Shard(number, count) for number in range(1, count + 1)]
    if missing := [
        part for part in wanted if part not in by_part or not by_part[part].about.sha256
    ]:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        raise RecipeError(
            f"Of {count:,} shards {counted(len(missing), 'is', 'are')} missing or unfinished: "
            f"{', '.join(map(str, missing[:_NAMED]))}{more}",
            "Make them with --shard; nothing was written.",
        )
    return [by_part[part] for part in wanted]


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Name a difference between two shards' work, or return ``""``."""
    parts = {str(begun.get(_PART)).partition("/")[2] for begun in (one, other)}
    if len(parts) > 1:
        return "number of shards"
    names = [_INPUTS, *one, *other]
    different = (name for name in names if name != _PART and one.get(name) != other.get(name))
    return next(different, "").removeprefix("the ")


def _rows_of(shards: Sequence[_Shard], watcher: Watcher) -> Iterator[answers_file.Answer]:
    """Yield the rows of all shards; raise where they are not those that were sealed."""
    done = 0
    for shard in shards:
        with closing(answers_file.open_answers(shard.file, writable=False)[0]) as db:
            digest = hashlib.sha256()
            for row in answers_file.read_rows(db, shard.file):
                digest.update(answers_file.row_bytes(row))
                yield row
        if digest.hexdigest() != shard.about.sha256:
            raise _changed(shard.file)
        done += shard.about.rows or 0
        watcher.advance(done)


def feature_row(units: int) -> np.dtype[Any]:
    """Return the type of an image's row: label (-1: none), part, SHA-256 of pixels, features."""
    return np.dtype(
        [("label", "<i8"), ("part", "u1"), ("digest", "u1", (32,)), ("features", "<f4", (units,))]
    )


def _add_array(
    archive: zipfile.ZipFile, name: str, blocks: Iterable[NDArray[Any]], count: int | None = None
) -> None:
    """Add an array that comes in blocks."""
    # Without a time, so that the same images give the same file.
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = archive.compression
    with archive.open(info, "w", force_zip64=True) as stream:
        for number, block in enumerate(blocks):
            if number == 0:
                shape = block.shape if count is None else (count, *block.shape[1:])
                header = {"descr": block.dtype.str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
            stream.write(np.ascontiguousarray(block).tobytes())


def write_features(file: Path, rows: answers_file.Rows, *, about: answers_file.About) -> None:
    """Write a ``.npz`` file of features, block by block."""
    begun = about.begun
    kind, classes = feature_row(sum(begun["units"])), begun["classes"]
    count, longest, is_parted = 0, 1, False
    unreadable: list[JsonObject] = []
    for image, is_unreadable, line in rows():
        if is_unreadable:
            unreadable.append({"name": image, "reason": (line or b"").decode()})
            continue
        (row,) = np.frombuffer(line or b"", kind)
        count, longest = count + 1, max(longest, len(image))
        is_parted |= bool(row["part"] != UNASSIGNED)

    def blocks() -> Iterator[tuple[list[str], NDArray[Any]]]:
        """Yield names and rows, at least none."""
        readable = ((row.image, row.line or b"") for row in rows() if not row.answer)
        step = max(1, _BLOCK // (kind.itemsize + 4 * longest))
        yield [], np.empty(0, kind)
        while block := list(islice(readable, step)):
            yield [image for image, _ in block], np.frombuffer(b"".join(c for _, c in block), kind)

    made = {name: begun[name] for name in ("backbone", "units", "view", "preparation")}
    facts = {"opsin": about.opsin, "source": about.source, **made, "unreadable": unreadable}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, arrays: Iterator[NDArray[Any]]) -> None:
            _add_array(archive, name, arrays, count)

        _add_array(archive, "about", [np.array(json.dumps(facts, ensure_ascii=True))])
        add("features", (block["features"] for _, block in blocks()))
        add("names", (np.array(names, f"U{longest}") for names, _ in blocks()))
        add("digests", (block["digest"] for _, block in blocks()))
        if is_parted:
            add("parts", (np.array(_PARTS)[block["part"]] for _, block in blocks()))
        if classes is not None:
            add("labels", (block["label"] for _, block in blocks()))
            _add_array(archive, "classes", [np.array(list(map(str, classes)))])
