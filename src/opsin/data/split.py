"""Train, validation and test splits, determined by the images' content."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.arrays import Bools, Bytes, Doubles, Ints
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import RecipeError, RunError, SourceError
from opsin.core.events import Watcher
from opsin.core.format import counted
from opsin.core.recipe import DataRecipe
from opsin.data.cache import as_keys, short_digest

#: Codes of the ``source_parts`` array: the part that a source assigns to each image.
UNASSIGNED, TRAIN, VAL, TEST = 0, 1, 2, 3
_PART_NAMES: Final = {
    "train": TRAIN, "training": TRAIN,
    "val": VAL, "valid": VAL, "validation": VAL, "dev": VAL,
    "test": TEST, "testing": TEST, "holdout": TEST, "eval": TEST, "evaluation": TEST,
}  # fmt: skip

#: Independent images from which on a class is cut by thresholds, which keep old images in place.
LARGE: Final = 500
# Standard deviations beyond which keys are uneven because of an earlier cut, not by chance.
_UNLIKELY: Final = 5


@functools.lru_cache(256)  # a table repeats few
def part_named(name: str) -> int | None:
    """Return the code of a part by one of its usual names, or ``None``."""
    word = re.sub(r"[-_\s]", "", name.casefold())
    return _PART_NAMES.get(word, _PART_NAMES.get(word.removesuffix("set")))


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, ascending, ``int64``; the parts never overlap."""

    train: Ints
    val: Ints
    test: Ints

    def rows(self, part: str) -> Ints:
        """Return the rows of ``train``, ``val`` or ``test``."""
        rows: Ints = getattr(self, part)
        return rows

    def part_names(self, count: int) -> list[str]:
        """Return the part of each of ``count`` images, ``""`` for those in none."""
        names = np.full(count, "", "<U5")
        for part in ("train", "val", "test"):
            names[self.rows(part)] = part
        return names.tolist()


def labels_of_several(labels: Ints, units: Ints) -> Ints:
    """Return the labels of more than one unit, ascending."""
    return np.flatnonzero(np.bincount(np.unique(np.stack([labels, units]), axis=1)[0]) > 1)


@dataclass(frozen=True)
class SplitInputs:
    """The inputs of a split: the images of a source, before any correction."""

    labels: Ints
    digests: Bytes
    source_digests: Bytes
    source_parts: Bytes
    classes: Sequence[str]
    units: Ints
    groups: Sequence[str] = ()
    recorded: Bytes | None = None
    corrected: tuple[Ints, Ints, Sequence[str]] | None = None

    def keys(self, recipe: DataRecipe, cut: Literal["test", "val"]) -> Doubles:
        """Return a hash from 0 to 1 for each image, equal within a unit."""
        start = f"opsin split {recipe.split_seed + (2**31 if cut == 'val' else 0)}".encode()
        pairs = zip(self.groups or [""] * len(self.labels), self.source_digests, strict=True)
        contents = (
            group.encode("utf-8", "surrogateescape") if group else digest.tobytes()
            for group, digest in pairs
        )
        digests = b"".join(hashlib.sha256(start + content).digest()[:16] for content in contents)
        # Two numbers each, since the smallest of several would not be uniform itself.
        rank, number = np.frombuffer(digests, ">u8").reshape(-1, 2).T
        order = np.lexsort((rank, self.units))
        speaker = order[np.searchsorted(self.units[order], self.units)]
        keys: Doubles = number[speaker] / 2.0**64
        return keys


def make_split(subjects: SplitInputs, recipe: DataRecipe) -> Split:
    """Cut validation and test parts out of the training images, unless given."""
    source_parts, recorded = subjects.source_parts, subjects.recorded
    # A source with a training part but no test has fixed its training images.
    cut_val, cut_test = not np.any(source_parts == VAL), not np.any(source_parts)
    if recipe.fold and (recorded is not None or not cut_test):
        which = "test" if np.any(source_parts == TEST) else "training"
        given = f"The {which} images are given" if recorded is None else "parts_of gives the parts"
        advice = "Leave fold out, or give the training images alone."
        raise RecipeError(f"{given}, so there are no folds", advice)
    parts = np.where(source_parts == UNASSIGNED, TRAIN, source_parts)
    free = parts == TRAIN
    if recorded is not None:
        free &= ~_take_up(subjects, parts, recorded)
    if cut_test:
        cut = _Cut(subjects, parts, free, subjects.keys(recipe, "test"), TEST)
        if recipe.fold:
            cut.take_fold(*map(int, recipe.fold.split("/")))
        elif recipe.test_fraction:
            cut.take_share(recipe.test_fraction)
    if cut_val:
        # By a second hash: a test part that was cut by the first, and is given now, used it up.
        cut = _Cut(subjects, parts, free, subjects.keys(recipe, "val"), VAL)
        cut.take_share(recipe.val_fraction)
        if cut_test and not recipe.fold and not np.any(parts == VAL):  # the test has all to spare
            parts[free] = TRAIN
            cut.take_share(recipe.val_fraction)
    return _checked(subjects, parts)


def _take_up(subjects: SplitInputs, parts: Bytes, recorded: Bytes) -> Bools:
    source_parts, units = subjects.source_parts, subjects.units
    known = np.where(
        (source_parts == UNASSIGNED) | ((source_parts == TRAIN) & (recorded == VAL)), recorded, 0
    )
    settled = known > 0
    for part in (TEST, VAL, TRAIN):  # an image of a training image's unit is never tested
        new = (known == 0) & (source_parts <= (TRAIN if part == VAL else UNASSIGNED))
        new &= np.isin(units, units[known == part])
        parts[new] = part
        settled |= new
    parts[known > 0] = known[known > 0]
    return settled


@dataclass(frozen=True)
class _Cut:
    subjects: SplitInputs
    parts: Bytes
    free: Bools
    keys: Doubles
    part: int

    def take_share(self, share: float) -> None:
        """Cut a share of each class, at least one unit if two others are left."""
        units = self.subjects.units
        sizes = np.bincount(units[self.parts == TRAIN], minlength=len(units))[units]
        larger = (sizes > 1) & (sizes > share * np.count_nonzero(self.parts == TRAIN))
        unit, numbers, ranked = self._units(~larger, np.array([0, share]), share)
        chosen = numbers < share
        chosen[list(ranked)] = False
        chosen[self._nearer(ranked, share)] = True
        self._take(unit, chosen)
        self._keep_learnable()
        self._lend(np.where(larger, sizes, 0))

    def take_fold(self, number: int, count: int) -> None:
        """Cut one of ``count`` folds: each unit is in one of them."""
        edges = np.arange(count) / count
        unit, numbers, ranked = self._units(np.ones_like(self.free), edges, 1.0)
        fold = np.floor(numbers * count)
        have = np.zeros((len(self.subjects.classes), count), np.int64)
        for index, held in ranked.items():
            labels, sizes = map(list, zip(*held, strict=True))
            # To the fold with the fewest of its classes, then the fewest images.
            fold[index] = np.lexsort((have.sum(axis=0), sizes @ have[labels]))[0]
            have[labels, int(fold[index])] += sizes
        self._take(unit, fold == number - 1)

    def _units(
        self, among: Bools, edges: Doubles, early: float
    ) -> tuple[Ints, Doubles, dict[int, list[tuple[int, int]]]]:
        labels, classes = self.subjects.labels, len(self.subjects.classes)
        rows = np.flatnonzero(among & self.free & (self.parts == TRAIN))
        unit = np.full(len(labels), -1)
        _, first, unit[rows] = np.unique(
            self.subjects.units[rows], return_index=True, return_inverse=True
        )
        numbers = self.keys[rows[first]]
        held, sizes = np.unique(unit[rows] * classes + labels[rows], return_counts=True)
        holder, label = np.divmod(held, classes)
        independent = np.unique(self.subjects.units * classes + labels) % classes
        large = np.bincount(independent, minlength=classes) >= LARGE
        small = np.flatnonzero(~(large & _are_even(label, numbers[holder], classes, edges))[label])
        # Units of one class come later, to balance those of several.
        alone = np.bincount(holder[small], minlength=len(numbers))[holder[small]] < 2
        turn = np.where(alone, 1, np.where(numbers[holder[small]] < early, 0, 2))
        small = small[np.lexsort((holder[small], numbers[holder[small]], turn))]
        ranked: dict[int, list[tuple[int, int]]] = {}
        for one, k, size in zip(*(a[small].tolist() for a in (holder, label, sizes)), strict=True):
            ranked.setdefault(one, []).append((k, size))
        return unit, numbers, ranked

    def _take(self, unit: Ints, chosen: Bools) -> None:
        self.parts[np.append(chosen, False)[unit]] = self.part

    def _nearer(self, ranked: dict[int, list[tuple[int, int]]], share: float) -> list[int]:
        labels, classes = self.subjects.labels, len(self.subjects.classes)
        shared = self.subjects.source_parts <= TRAIN
        if self.part == VAL:
            shared &= self.parts != TEST
        wanted = np.floor(share * np.bincount(labels[shared], minlength=classes) + 0.5).tolist()
        have = np.bincount(labels[shared & (self.parts == self.part)], minlength=classes).tolist()
        chosen = []
        for unit, held in ranked.items():
            # The decrease of the squared distance to the shares by this unit.
            if sum(size * (2 * (wanted[k] - have[k]) - size) for k, size in held) > 0:
                chosen.append(unit)
                for k, size in held:
                    have[k] += size
        return chosen

    def _keep_learnable(self) -> None:
        """Return the unit with the highest key to a class without training images."""
        parts, free, units = self.parts, self.free, self.subjects.units
        for label in range(len(self.subjects.classes)):
            of_class = free & (self.subjects.labels == label)
            for least in (1, 2) if self.part == TEST else (1,):
                away = np.flatnonzero(of_class & (parts != TRAIN))
                spare = len(np.unique(units[away]))
                if spare >= least and len(np.unique(units[of_class & (parts == TRAIN)])) < least:
                    last = away[np.argmax(self.keys[away])]
                    parts[free & (units == units[last])] = TRAIN

    def _lend(self, large: Ints) -> None:
        """Give a part that lacks a class the unit with the lowest key, if it can be spared."""
        parts, free = self.parts, self.free
        labels, units = self.subjects.labels, self.subjects.units
        for label in range(len(self.subjects.classes)):
            if np.any((labels == label) & (parts == self.part)):
                continue
            rows = np.flatnonzero(free & (labels == label) & (parts == TRAIN))
            rows = rows[np.lexsort((self.keys[rows], large[rows]))]
            for row in rows[np.sort(np.unique(units[rows], return_index=True)[1])]:
                unit = free & (units == units[row])
                left = (parts == TRAIN) & ~unit
                if all(
                    len(np.unique(units[left & (labels == other)]))
                    # One for training and, since the test part chooses first, one for validation.
                    > (self.part == TEST and not np.any((labels == other) & (parts == VAL)))
                    for other in np.unique(labels[unit])
                ):
                    parts[unit] = self.part
                    break


def _are_even(labels: Ints, numbers: Doubles, classes: int, edges: Doubles) -> Bools:
    bins = len(edges)
    where = np.searchsorted(edges, numbers, side="right") - 1
    counts = np.bincount(labels * bins + where, minlength=classes * bins).reshape(classes, bins)
    share = np.diff(edges, append=1.0)
    expected = counts.sum(axis=1, keepdims=True) * share
    even = np.abs(counts - expected) <= _UNLIKELY * np.sqrt(expected * (1 - share))
    return np.asarray(even.all(axis=1))


def _checked(subjects: SplitInputs, parts: Bytes) -> Split:
    uncorrected = np.arange(len(parts)), subjects.labels, subjects.classes
    rows, labels, classes = subjects.corrected or uncorrected
    source_parts, parts = subjects.source_parts[rows], parts[rows]
    flat = as_keys(subjects.digests[rows])
    least = 1 if np.any(subjects.source_parts == VAL) else 2
    for label, name in enumerate(classes):
        different, problem = len(np.unique(flat[(source_parts <= TRAIN) & (labels == label)])), ""
        if different < least:
            problem = f"Class {name!r} has {different} different training images; two are needed"
        elif not np.any((parts == TRAIN) & (labels == label)):
            problem = f"All images of class {name!r} that are left are for validation or the test"
        if problem:
            raise SourceError(problem, "Add images, or leave the class out with --classes.")
    if not np.any(parts == VAL):
        raise SourceError(
            f"None of {np.sum(parts == TRAIN):,} training images can be spared for validation: "
            "they belong together as groups or near duplicates, or are alone in their class",
            "Add other images, leave their groups out, or give --near-duplicates apart.",
        )
    return Split(*(np.flatnonzero(parts == part) for part in (TRAIN, VAL, TEST)))


def recorded_parts(run: str, digests: Sequence[Bytes], watcher: Watcher) -> Bytes:
    """Return each image's part in a run, ``uint8[N]``; ``UNASSIGNED`` for new ones."""
    directory = RunDirectory.open(run)
    if not directory.split.is_file():
        raise RunError(f"{run} ended before it recorded the parts of its images")
    kept = directory.load_arrays(directory.split)
    if "fold" in kept:
        problem = f"{run} learnt from all its images, and was judged by all of them"
        raise RecipeError(problem, "Leave parts_of out: images that come later move nothing there.")
    known: dict[bytes, int] = {}
    # Of copies in several parts, the training one wins.
    for part, code in (("test", TEST), ("val", VAL), ("train", TRAIN)):
        for name in ("digests", "source_digests"):
            known |= {bytes(digest): code for digest in kept[name][kept[part]]}
    parts = np.full(len(digests[0]), UNASSIGNED, np.uint8)
    for kind in digests:
        codes = [known.get(bytes(digest), UNASSIGNED) for digest in short_digest(kind)]
        parts = np.where(parts == UNASSIGNED, codes, parts).astype(np.uint8)
    known_count = int(np.count_nonzero(parts))
    if not known_count:
        raise RecipeError(
            f"{run} was trained on none of these images", "Leave parts_of out, or name another run."
        )
    new = len(parts) - known_count
    watcher.fact("Parts", f"as in {run} for {counted(known_count, 'image')}; {new:,} are new")
    return parts


def find_leaks(split: Split, digests: Bytes, pairs: Ints) -> tuple[Ints, Ints]:
    """Find test images with an exact copy, or only a near one, in the other parts."""
    _, content = np.unique(as_keys(digests), return_inverse=True)
    tested = np.isin(np.arange(len(content)), split.test)
    outside = content[~tested]
    copied = tested & np.isin(content, outside)
    # A pair stands for all exact copies of its images.
    both = content[np.concatenate([pairs, pairs[:, ::-1]])]
    near = both[np.isin(both[:, 1], outside), 0]
    alike = tested & np.isin(content, near) & ~copied
    return np.flatnonzero(copied), np.flatnonzero(alike)


def groups_by_name(names: Sequence[str], recipe: DataRecipe) -> list[str]:
    """Return the match of ``group_by``, or of its first group, in each name below its source."""
    pattern = recipe.group_by or ""
    if len(recipe.sources) > 1 or recipe.test:  # names begin with their source's title
        names = [name.partition("/")[2] for name in names]
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise RecipeError(f"group_by {pattern!r} is no regular expression ({error})") from error
    matches = (compiled.search(name) for name in names)
    groups = [(m.group(1 if compiled.groups else 0) or "") if m else "" for m in matches]
    if not any(groups):
        raise SourceError(
            f"{pattern!r} matches none of the {len(names):,} names, such as {', '.join(names[:3])}",
            "Give an expression that finds what images share, such as '/([a-z]+)_'.",
        )
    return groups


def split_groups(digests: Bytes, groups: Sequence[str], pairs: Ints) -> Ints:
    """Return each image's unit: the smallest row connected with it."""
    edges = [pairs.reshape(-1, 2), pairs_of(as_keys(digests))]
    first: dict[str, int] = {}
    named = [(row, first.setdefault(text, row)) for row, text in enumerate(groups) if text]
    edges.append(np.array(named, np.int64).reshape(-1, 2))
    one_way = np.concatenate(edges)
    root = np.arange(len(digests))
    while True:
        one, other = root[one_way].T
        apart = one != other
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while np.any(root != root[root]):
            root = root[root]


def pairs_of(keys: NDArray[Any]) -> Ints:
    """Pair each row with the first one of the same key, ``int64[N, 2]``."""
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return np.stack([np.arange(len(keys)), first[which.ravel()]], axis=1)
