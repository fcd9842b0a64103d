"""The images of a run: located, read again, and matched row by row."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from opsin.core.artifacts.records import DatasetRecord
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_report import RecordedRecipe
from opsin.core.csv_cells import read_row, write_rows
from opsin.core.errors import MovedError, RecipeError, RunError, SourceError, StorageError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.recipe import DataRecipe
from opsin.core.storage import atomic_file
from opsin.data.cache import as_keys, digest_names, short_digest
from opsin.data.corrections import Decoded
from opsin.data.dataset import Dataset, fingerprint_of, load_recipe
from opsin.data.sources.contents import take
from opsin.data.sources.named import is_place
from opsin.data.split import Split

#: One path, or several in the run's order.
Places = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_One = TypeVar("_One")


def is_moved(run: RunDirectory) -> bool:
    """Tell whether a run's images are gone from their recorded paths."""
    return not has_no_images(run) and bool(_missing(_recorded(run)))


def has_no_images(run: RunDirectory) -> bool:
    """Tell whether a run is a classifier imported without images."""
    return run.imported.is_file() and not run.dataset.is_file()


def recipe_of_run(run: RunDirectory, data: Places = ()) -> DataRecipe:
    """Return the recipe of a run's images, at other paths in its order, the test images last."""
    recipe = _recorded(run)
    places = [os.fspath(path) for path in ([data] if isinstance(data, str | os.PathLike) else data)]
    known = [*recipe.sources, *([recipe.test] if recipe.test else [])]
    if places and recipe.test and len(places) == len(known):
        recipe = recipe.model_copy(update={"sources": tuple(places[:-1]), "test": places[-1]})
    elif places and len(places) == len(recipe.sources):
        recipe = recipe.model_copy(update={"sources": tuple(places)})
    elif places:
        problem = f"{run.path} has {counted(len(known), 'source')}, not {len(places)}"
        raise RecipeError(problem, f"They were, in this order: {', '.join(known)}.")
    gone = [source for source in _missing(recipe) if source not in places]
    if gone and not has_no_images(run):
        raise MovedError(run.path, gone)
    return recipe


def _recorded(run: RunDirectory) -> DataRecipe:
    # Its own parts are recorded by now.
    recipe = run.read(RecordedRecipe).data.model_copy(update={"parts_of": None})
    if not run.dataset.is_file():
        return recipe
    places = run.location().model_dump(include={"sources", "test", "labels"}, exclude_unset=True)
    try:
        return DataRecipe.model_validate(recipe.model_dump(exclude_unset=True) | places)
    except ValidationError as error:
        raise RunError(
            f"{run.recipe} is no recipe of Opsin", "Restore the file, or train again."
        ) from error


def _missing(recipe: DataRecipe) -> list[str]:
    places = filter(is_place, filter(None, (*recipe.sources, recipe.test)))
    return [place for place in places if not os.path.exists(os.path.expanduser(place))]  # noqa: PTH110, PTH111


def load_run_images(run: RunDirectory, data: Places = (), *, watcher: Watcher = SILENT) -> Dataset:
    """Read a run's images, in its order and parts, and verify that they are unchanged."""
    if has_no_images(run):
        advice = "Import it again with some: opsin import FILE --data SOURCE."
        raise RunError(f"{run.path} was imported without any images", advice)
    recipe = recipe_of_run(run, data)
    if not run.dataset.is_file():  # ended before writing dataset.json
        return load_recipe(recipe, watcher=watcher)
    record = run.read(DatasetRecord)

    def prove(decoded: Decoded) -> Decoded:
        same = fingerprint_of(decoded) == record.fingerprint
        rows = np.arange(len(decoded.labels)) if same else None
        if same and run.split.is_file():
            rows = rows_of_run(run, decoded)
        if rows is None:
            raise SourceError(
                f"{recipe.source} has changed since {run.path} was made from it: "
                f"{_difference(run, decoded)}",
                "Restore the images, or train again.",
            )
        # Renamed files come in another order; the run's rows stay the same.
        return decoded if np.array_equal(rows, np.arange(len(rows))) else take(decoded, rows)

    # A correction of a missing image is no error of its own: the fingerprint shows it.
    # Nor is a split that Opsin would refuse today.
    dataset = load_recipe(
        recipe, watcher=watcher, missing_ok=True, for_training=not run.split.is_file(), prove=prove
    )
    if is_moved(run):
        located = dataset.located
        update = {"sources": list(located.sources), "test": located.test}
        location = record.location.model_copy(update=update)
        with contextlib.suppress(StorageError):
            record.model_copy(update={"location": location}).write(run.path)
    return with_run_split(run, dataset)


def with_run_split(directory: RunDirectory, dataset: Dataset) -> Dataset:
    """Return a run's images with the recorded split."""
    if not directory.split.is_file():
        return dataset
    kept = directory.load_arrays(directory.split)
    return replace(dataset, split=Split(kept["train"], kept["val"], kept["test"]))


def _difference(run: RunDirectory, decoded: Decoded) -> str:
    then = Counter(bytes(digest) for digest in run.load_arrays(run.split)["digests"])
    now = Counter(bytes(digest) for digest in short_digest(decoded.digests))
    missing, others = (then - now).total(), (now - then).total()
    if not missing and not others:
        return "the images are the same, but classes of some are others"
    lost = f"of {then.total():,} images {missing:,} are missing" if missing else "none is missing"
    return f"{lost}, and {others:,} others are there" if others else lost


class RunImage(NamedTuple):
    """A row of a run's ``pictures.csv``."""

    name: str
    label: str
    part: str
    digest: str


def write_images(directory: RunDirectory, dataset: Dataset) -> None:
    """Write ``pictures.csv``: name, class, part and digest of each image of a run (RFC 4180)."""
    labels = (dataset.classes[label] for label in dataset.labels)
    parts, digests = dataset.split.part_names(len(dataset)), digest_names(dataset.digests)
    with (
        atomic_file(directory.images) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        rows = zip(dataset.names, labels, parts, digests, strict=True)
        write_rows(stream, itertools.chain([RunImage._fields], rows))


def read_images(directory: RunDirectory) -> list[RunImage]:
    """Read the table of a run's images."""
    file = directory.images
    if not file.is_file():
        raise RunError(f"{directory.path} has no {file.name}", "Train again.")
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            rows = map(read_row, csv.reader(stream, strict=True))
            if next(rows, None) != list(RunImage._fields):
                raise ValueError("it lacks some of its columns")
            images = [RunImage(*row) for row in rows]
            if any(len(image.digest) != 32 for image in images):
                raise ValueError("it was cut short")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise RunError(f"{file} is damaged ({error})", "Restore it, or train again.") from error
    return images


def pair_up(
    then: Sequence[_One], now: Sequence[_One], keys: Sequence[Callable[[_One], Hashable]]
) -> list[tuple[int, int]]:
    """Pair equal items of two lists one to one, by the first key, then by the next."""
    pairs: list[tuple[int, int]] = []
    ones, others = list(range(len(then))), list(range(len(now)))
    for key in keys:
        waiting: dict[Hashable, list[int]] = defaultdict(list)
        for other in reversed(others):
            waiting[key(now[other])].append(other)
        matches = [(one, same.pop()) for one in ones if (same := waiting.get(key(then[one])))]
        pairs += matches
        paired = {one for one, _ in matches}
        ones = [one for one in ones if one not in paired]
        others = sorted(other for rest in waiting.values() for other in rest)
    return pairs


def rows_of_run(directory: RunDirectory, decoded: Decoded) -> NDArray[np.int64] | None:
    """Return the current row of each image of a run, or ``None`` if one is missing."""
    mine = directory.load_arrays(directory.split)["digests"]
    here = short_digest(decoded.digests)
    if here.shape != mine.shape:
        return None
    if np.array_equal(here, mine) and len(np.unique(as_keys(mine))) == len(mine):
        return np.arange(len(mine))
    labels = [decoded.classes[label] for label in decoded.labels]
    now = [
        RunImage(name, label, "", digest)
        for name, label, digest in zip(decoded.names, labels, digest_names(here), strict=True)
    ]
    # A name may have changed.
    keys = (lambda one: (one.digest, one.label, one.name), lambda one: (one.digest, one.label))
    pairs = sorted(pair_up(read_images(directory), now, keys))
    whole = [one for one, _ in pairs] == list(range(len(mine)))
    return np.array([other for _, other in pairs], np.int64) if whole else None
