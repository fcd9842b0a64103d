"""The verb `merge`: shards become the file that one command would have written."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from opsin.commands.join_shards import join_shards, joined_manifest
from opsin.commands.shard_cover import covering
from opsin.commands.shard_manifest import FinishedShard, ShardManifest, manifest_of
from opsin.commands.stored_shards import StoredShards
from opsin.core.arguments import checked
from opsin.core.errors import RecipeError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.storage import storage_errors
from opsin.core.stored_json import JsonObject
from opsin.data.shard import Shard, named_shard, whole_file
from opsin.stores.store_address import StoreAddress, is_stored


@dataclass(frozen=True)
class Merged:
    """What `merge` wrote.

    Args:
        out: The file.
        verb: The command whose file it is: ``predict``, ``embed``, ``evaluate`` or ``audit``.
        shards: How many shards it was made of.
        images: Images of the source.
        rows: Rows of these shards.
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
    part: str | None = None,
    watcher: Watcher = SILENT,
) -> Merged:
    """Join the shards of a file, in any order; the same bytes as made in one go.

    Shards of an evaluation or an audit become its figures or findings.

    Args:
        shards: All shards, or the name that they were given: ``answers.csv`` stands for
            ``answers-00001-of-00003.csv`` and so on. Those on an object store (``s3://…``) are
            fetched, joined here, and sent.
        out: The new file (default: that name).
        part: ``2/100``: join only the second hundredth of the shards, into
            ``answers-00002-of-00100.csv``: the file that ``--shard 2/100`` would have made, and
            merged like it. In this way many machines can merge, each a part.
        watcher: Receives progress and notes.

    Raises:
        RecipeError: Shards are missing, there twice, not finished, or of different models, images
            or options; or cannot be divided into such parts. All that are missing are named.
        StorageError: A shard was changed since, the file is there already, or the disk refuses it.

    Example:
        >>> merged = merge("answers.csv")                             # doctest: +SKIP
        >>> merge(["a-00001-of-00002.npz", "a-00002-of-00002.npz"])   # doctest: +SKIP
        >>> merge("answers.csv", part="1/100")                        # doctest: +SKIP
    """
    began = time.monotonic()
    target = None if part is None else Shard.parse(part)
    given = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    if any(map(is_stored, given)):
        return _merge_stored(StoredShards.find(given, out, target), watcher, began)
    if out is not None and is_stored(out):
        raise RecipeError(
            "a file, for shards in files", f"got {out}", "Merge here, then copy it there."
        )
    files = [Path(each) for each in given]
    if not files or not all(file.name for file in files):
        raise RecipeError("shards to merge", "got none", "Give them, or the name they share.")
    by_name = len(files) == 1 and not manifest_of(files[0]).exists()
    whole = Path(out) if out is not None else files[0] if by_name else whole_file(files[0])
    if target is not None and whole is not None and (before := _finished(target.file(whole))):
        _check_counts(before, _shards_of(whole)[0])
        watcher.note(f"{before.file} is finished")
        return _merged(before.file, [before], began)
    ordered = _named(files[0], target) if by_name else _given(files, target)
    if out is None and whole is not None and ordered[0].manifest.reports:
        whole = whole.with_suffix(".json")
    _note_versions(ordered, watcher)
    path = _place(whole, ordered[0], target)
    rows = sum(each.manifest.rows for each in ordered)
    watcher.begin("Merge", rows, "rows")
    join_shards(ordered, path, whole=target is None, watcher=watcher)
    if target is not None:
        joined_manifest(ordered, path, target)
    watcher.end()
    return _merged(path, ordered, began)


def _merge_stored(shards: StoredShards, watcher: Watcher, began: float) -> Merged:
    """Fetch shards, join them here, and send what became of them."""
    place, target = shards.place, shards.place.shard
    claim = place.claim()
    if claim.finished is not None:  # a part that was merged before
        before = FinishedShard.read(place.path)
        place.settle(claim)
        watcher.note(f"{place.shown} is finished")
        done = _merged(place.path, [before], began)
    else:
        with shards.fetched(claim, watcher) as copies:
            done = merge(
                copies,
                out=shards.whole,
                part=None if target is None else str(target),
                watcher=place.watcher(watcher),
            )
    return replace(done, out=place.shown, seconds=time.monotonic() - began)


def _merged(path: Path, shards: Sequence[FinishedShard], began: float) -> Merged:
    first = shards[0].manifest
    rows = sum(each.manifest.rows for each in shards)
    return Merged(path, first.verb, len(shards), first.images, rows, time.monotonic() - began)


def _finished(file: Path) -> FinishedShard | None:
    """Return a shard that is finished; ``None`` where it is not."""
    if not manifest_of(file).exists():
        return None
    manifest = ShardManifest.read(file)
    whole = file.is_file() and file.stat().st_size == manifest.size
    return FinishedShard(file, manifest) if whole else None


def _given(files: Sequence[Path], target: Shard | None) -> list[FinishedShard]:
    """Return the shards to join, of those given, in their order."""
    found: dict[Shard, FinishedShard] = {}
    shards = [FinishedShard.read(file) for file in files]
    for shard in shards:
        shards[0].check_alike(shard)
        part = shard.manifest.part
        if part in found:
            raise RecipeError(
                "each shard once",
                f"{found[part].file} and {shard.file} are both {part}",
                "Leave one out.",
            )
        found[part] = shard
    return covering(found, target)


def _named(whole: Path, target: Shard | None) -> list[FinishedShard]:
    """Return the shards to join, of those that share a name, in their order.

    Of those that are not joined, one manifest of each number is read: there may be thousands.
    """
    found, unfinished = _shards_of(whole)
    if not found and not unfinished:
        raise RecipeError(
            "shards to merge",
            f"there is none of {whole}",
            f"They are called {Shard(1, 3).file(whole).name} and so on.",
        )
    try:
        files = covering(found, target)
    except RecipeError:
        for file in unfinished:
            ShardManifest.read(file)  # says what to do with it
        raise
    ordered = [FinishedShard.read(file) for file in files]
    for each in ordered:
        ordered[0].check_alike(each)
        if each.manifest.part != named_shard(each.file):
            raise RecipeError(
                f"{each.file.name} to be the shard that its name says",
                f"it is {each.manifest.part}",
                "Make it again.",
            )
    _check_counts(ordered[0], found)
    return ordered


def _shards_of(whole: Path) -> tuple[dict[Shard, Path], list[Path]]:
    """Return the shards that share a name: those with a manifest, and the others."""
    with storage_errors(whole.parent):
        names = {entry.name for entry in os.scandir(whole.parent)}
    found: dict[Shard, Path] = {}
    unfinished: list[Path] = []
    for name in sorted(names):
        file = whole.parent / name
        shard = named_shard(file)
        if shard is not None and shard.file(whole) == file:
            if manifest_of(file).name in names:
                found[shard] = file
            else:
                unfinished.append(file)
    return found, unfinished


def _check_counts(first: FinishedShard, found: Mapping[Shard, Path]) -> None:
    """Refuse shards of another number that do not belong to the first: perhaps newer ones."""
    for file in {shard.count: file for shard, file in found.items()}.values():
        first.check_alike(FinishedShard.read(file))


def _note_versions(shards: Sequence[FinishedShard], watcher: Watcher) -> None:
    versions = sorted({shard.manifest.opsin for shard in shards})
    if len(versions) > 1:
        watcher.note(f"they were made by several versions of Opsin: {', '.join(versions)}")


def _place(path: Path | None, first: FinishedShard, target: Shard | None) -> Path:
    """Return where the merged file goes.

    Raises:
        RecipeError: It is not said, or is of another form.
        StorageError: It is there already.
    """
    if path is None:
        raise RecipeError(
            "a name for the merged file", f"{first.file.name} does not tell it", "Give --out FILE."
        )
    ending = ".json" if first.manifest.reports else first.file.suffix.lower()
    if path.suffix.lower() != ending:
        raise RecipeError(
            f"a file name that ends in {ending}", f"got {path.name!r}", "Give another name."
        )
    if target is not None:
        return target.file(path)  # without its manifest it is not finished
    with storage_errors(path):
        if path.exists() or path.is_symlink():
            raise StorageError("a new file", f"{path} is there already", "Give another: --out.")
    return path
