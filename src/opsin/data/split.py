"""Train, validation and test splits that content decides."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.core.errors import RecipeError, SourceError
from opsin.core.recipe import DataRecipe
from opsin.data.cache import as_keys

#: Codes of the ``given`` array: what a source says of each of its images.
UNASSIGNED, TRAIN, VAL, TEST = 0, 1, 2, 3
_PART_NAMES: Final = {
    "train": TRAIN, "training": TRAIN,
    "val": VAL, "valid": VAL, "validation": VAL, "dev": VAL,
    "test": TEST, "testing": TEST, "holdout": TEST, "eval": TEST, "evaluation": TEST,
}  # fmt: skip

# How often images may be cut again, and how unlikely what they lack is if they never were.
_SALTS: Final = 16
_UNLIKELY: Final = 1e-6


def part_named(name: str) -> int | None:
    """Return the code of a part by one of its usual names, in any case and form; else ``None``.

    Example:
        >>> part_named("Training"), part_named("test_set"), part_named("cat")
        (1, 3, None)
    """
    word = re.sub(r"[-_\s]", "", name.casefold())
    return _PART_NAMES.get(word, _PART_NAMES.get(word.removesuffix("set")))


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, ascending, ``int64``; the parts never overlap."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the rows of ``train``, ``val`` or ``test``."""
        rows: NDArray[np.int64] = getattr(self, part)
        return rows


@dataclass(frozen=True)
class Subjects:
    """What a split is made of.

    Args:
        labels: Class index of each image, ``int64[N]``.
        digests: Hash of each image's pixels, ``uint8[N, 32]``.
        source_digests: Hash of what each was decoded from, ``uint8[N, 32]``.
        given: What the source says: ``UNASSIGNED``, ``TRAIN``, ``VAL`` or ``TEST``, ``uint8[N]``.
        classes: Class names, for errors.
        units: Images with the same number stay on one side, ``int64[N]``
            (`opsin.data.duplicate_groups`).
        groups: What the images of a unit are known by, ``""`` for none; or empty.
    """

    labels: NDArray[np.int64]
    digests: NDArray[np.uint8]
    source_digests: NDArray[np.uint8]
    given: NDArray[np.uint8]
    classes: Sequence[str]
    units: NDArray[np.int64]
    groups: Sequence[str] = ()

    def keys(
        self, recipe: DataRecipe, cut: Literal["test", "val"], salt: int
    ) -> NDArray[np.float64]:
        """Return a number from 0 to 1 for each image, the same for those of one unit.

        It is a hash of the group's name or else of the image's source bytes (of its pixels, where
        the recipe says so), so that nothing but content decides; one image of a unit, itself
        chosen by a hash, speaks for all.

        Args:
            recipe: Which numbers, by its ``split_seed`` and ``split_by``.
            cut: Each cut has its own.
            salt: Others for another number: see `_choose_salt`.
        """
        seed = recipe.split_seed + (2**31 if cut == "val" else 0)
        start = hashlib.sha256(f"opsin split {seed}{f' salt {salt}' * (salt > 0)}".encode())
        contents = self.source_digests if recipe.split_by == "bytes" else self.digests

        def hashed(content: bytes) -> bytes:
            whole = start.copy()
            whole.update(content)
            return whole.digest()[:16]

        groups = self.groups or [""] * len(self.labels)
        own = b"".join(
            hashed(group.encode("utf-8", "surrogateescape") if group else digest.tobytes())
            for group, digest in zip(groups, contents, strict=True)
        )
        # Two numbers each, since the smallest of several would not be evenly spread itself.
        rank, number = np.frombuffer(own, ">u8").reshape(-1, 2).T
        order = np.lexsort((rank, self.units))
        speaker = order[np.searchsorted(self.units[order], self.units)]
        keys: NDArray[np.float64] = number[speaker] / 2.0**64
        return keys


def make_split(subjects: Subjects, recipe: DataRecipe) -> Split:
    """Cut validation, and test where none is given, out of the training images.

    Each unit of images (exact and near copies, groups) has numbers from 0 to 1, hashes of its
    source bytes. ``stable``: units whose first number is below ``test_fraction`` are for the test;
    of the others, those whose second is below ``val_fraction`` are for validation. So an image's
    side depends on nothing but itself, and images that are added later move no old one; the
    parts' sizes vary by chance, by ``sqrt(n p (1 - p))`` images. Units that are larger than a
    whole part are trained on. ``exact``: within each class
    the units are taken in the order of their numbers until the part has its size.

    Raises:
        SourceError: A class has too few images to be both learnt and checked, or too many of
            them belong together.
        RecipeError: Folds are asked for of a source that names its test images.
    """
    given = subjects.given
    fixed_val, fixed_test = bool(np.any(given == VAL)), bool(np.any(given == TEST))
    parts = given.copy()
    parts[given == UNASSIGNED] = TRAIN
    _check_enough(subjects, parts == TRAIN, 1 if fixed_val else 2)
    # A source that names a training part but no test has said which images are for training.
    cut_test = not (fixed_test or fixed_val or np.any(given == TRAIN))
    if recipe.fold and not cut_test:
        raise RecipeError(
            "a source whose test part is not given, for folds",
            f"{'its test' if fixed_test else 'its training'} images are given",
            "Leave fold out, or give the training images alone.",
        )
    salt = 0 if fixed_val else _choose_salt(subjects, recipe, parts == TRAIN, cut_test=cut_test)
    if cut_test:
        free = parts == TRAIN
        if not recipe.fold:  # folds have to cover everything
            free &= ~_larger_than(recipe.test_fraction, subjects, free)
        keys = subjects.keys(recipe, "test", salt)
        parts[_between(subjects, keys, free, _test_range(recipe), recipe)] = TEST
        # Folds test each image once, and so each class.
        if recipe.split_by == "bytes" and recipe.test_fraction and not recipe.fold:
            _keep_learnable(subjects, keys, parts, validated=True)
            _lend(subjects, keys, parts, TEST, recipe)
    # By a second hash: where the test part was cut by the first and is given now, its range is
    # used up.
    keys = subjects.keys(recipe, "val", salt)
    if not fixed_val:
        share = (0.0, recipe.val_fraction)
        free = parts == TRAIN
        free &= ~_larger_than(recipe.val_fraction, subjects, free)
        parts[_between(subjects, keys, free, share, recipe)] = VAL
    _keep_learnable(subjects, keys, parts)
    if not fixed_val:
        _lend(subjects, keys, parts, VAL, recipe)
        _check_val(parts)
    return Split(*(np.flatnonzero(parts == part) for part in (TRAIN, VAL, TEST)))


def _test_range(recipe: DataRecipe) -> tuple[float, float]:
    """Return the range of numbers whose images are for the test."""
    if recipe.fold is None:
        return 0.0, recipe.test_fraction
    number, count = map(int, recipe.fold.split("/"))
    return (number - 1) / count, number / count


def _choose_salt(
    subjects: Subjects, recipe: DataRecipe, free: NDArray[np.bool_], *, cut_test: bool
) -> int:
    """Return the first salt whose numbers have not been used to cut these images before.

    What an earlier cut left over, such as an exported training part, has no numbers in the ranges
    that were cut out: cut by the same numbers again, it would have no images to test. Other images
    lack them by chance once in a million collections.
    """
    if recipe.split_by == "pixels" or recipe.assignment == "exact":
        return 0  # as runs of Opsin 0.1 were cut; by rank, which no earlier cut uses up
    free = free & ~_larger_than(max(recipe.test_fraction, recipe.val_fraction), subjects, free)
    rows = np.flatnonzero(free)
    rows = rows[np.unique(subjects.units[rows], return_index=True)[1]]
    for salt in range(_SALTS):
        chosen = subjects.keys(recipe, "val", salt)[rows] < recipe.val_fraction
        shares = [(chosen, recipe.val_fraction)]
        if cut_test:
            tested = subjects.keys(recipe, "test", salt)[rows] < recipe.test_fraction
            either = 1 - (1 - recipe.test_fraction) * (1 - recipe.val_fraction)
            shares += [(tested, recipe.test_fraction), (tested | chosen, either)]
        if not any(_lacks(which, share) for which, share in shares):
            return salt
    return 0


def _lacks(which: NDArray[np.bool_], share: float) -> bool:
    """Tell whether far fewer are chosen than a share of all, by Chernoff's bound."""
    count, found = len(which), float(which.mean()) if len(which) else share
    if found >= share:
        return False
    distance = (1 - found) * math.log((1 - found) / (1 - share))
    distance += found * math.log(found / share) if found else 0
    return count * distance > -math.log(_UNLIKELY)


def _check_enough(subjects: Subjects, training: NDArray[np.bool_], least: int) -> None:
    """Refuse classes with fewer different training images than ``least``."""
    flat = as_keys(subjects.digests)
    for label, name in enumerate(subjects.classes):
        different = len(np.unique(flat[training & (subjects.labels == label)]))
        if different < least:
            raise SourceError(
                "at least two different training images of each class",
                f"class {name!r} has {different}",
                "Add images, or leave the class out with --classes.",
            )


def _larger_than(share: float, subjects: Subjects, free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which images' units would be more than a whole part, ``bool[N]``."""
    sizes = np.bincount(subjects.units[free], minlength=len(free))[subjects.units]
    larger: NDArray[np.bool_] = (sizes > 1) & (sizes > share * np.count_nonzero(free))
    return larger


def _between(
    subjects: Subjects,
    keys: NDArray[np.float64],
    free: NDArray[np.bool_],
    limits: tuple[float, float],
    recipe: DataRecipe,
) -> NDArray[np.bool_]:
    """Choose the free images within the limits of the range from 0 to 1, ``bool[N]``."""
    low, high = limits
    if recipe.assignment != "exact":
        return free & (keys >= low) & (keys < high)
    chosen = np.zeros(len(keys), bool)
    labels, units = subjects.labels, subjects.units
    mixed = np.zeros(len(keys), bool)
    mixed[units[labels != labels[units]]] = True
    mixed = mixed[units]
    # Units of several classes cannot be dealt out class by class, but by themselves.
    others = len(subjects.classes)
    dealt = np.where(mixed, others, labels)
    if recipe.split_by == "pixels":  # as Opsin 0.1 did
        chosen[mixed & free] = (keys[mixed & free] >= low) & (keys[mixed & free] < high)
        dealt[mixed] = -1
    for label in range(others + 1):
        rows = np.flatnonzero(free & (dealt == label))
        rows = rows[np.lexsort((units[rows], keys[rows]))]
        sizes = np.diff(np.append(np.flatnonzero(np.diff(units[rows], prepend=-1)), len(rows)))
        ends = np.cumsum(sizes)
        # A unit goes to the part that its middle lies in, so that each border is at most half a
        # unit off, whatever lies on its other side.
        middle = np.repeat(ends - sizes / 2, sizes)
        total = len(rows)
        chosen[rows] = (middle >= _round(low * total)) & (middle < _round(high * total))
    return chosen


def _round(number: float) -> float:
    """Round to a whole number of images, one half upwards."""
    return float(np.floor(number + 0.5))


def _movable(subjects: Subjects) -> NDArray[np.bool_]:
    movable: NDArray[np.bool_] = (subjects.given == UNASSIGNED) | (subjects.given == TRAIN)
    return movable


def _keep_learnable(
    subjects: Subjects,
    keys: NDArray[np.float64],
    parts: NDArray[np.uint8],
    *,
    validated: bool = False,
) -> None:
    """Give a class without training images the unit of the highest number back.

    With ``validated`` a second one, where the test part has several, for validation.
    """
    movable, units = _movable(subjects), subjects.units
    for label in range(len(subjects.classes)):
        own = movable & (subjects.labels == label)
        for least in (1, 2) if validated else (1,):
            away = np.flatnonzero(own & (parts != TRAIN))
            spare = len(np.unique(units[away]))
            if spare >= least and len(np.unique(units[own & (parts == TRAIN)])) < least:
                last = away[np.argmax(keys[away])]
                parts[movable & (units == units[last])] = TRAIN


def _lend(
    subjects: Subjects,
    keys: NDArray[np.float64],
    parts: NDArray[np.uint8],
    part: int,
    recipe: DataRecipe,
) -> None:
    """Give a part that lacks a class the unit of it with the lowest number, if it can be spared.

    Only classes of a few units are ever affected. Units that are larger than a whole part come
    last, the smallest first.
    """
    labels, units = subjects.labels, subjects.units
    movable = _movable(subjects)
    share = recipe.test_fraction if part == TEST else recipe.val_fraction
    large = np.zeros(len(units), np.int64)
    if recipe.split_by == "bytes":
        which = _larger_than(share, subjects, movable)
        large[which] = np.bincount(units, minlength=len(units))[units[which]]
    for label in range(len(subjects.classes)):
        if np.any((labels == label) & (parts == part)):
            continue
        rows = np.flatnonzero(movable & (labels == label) & (parts == TRAIN))
        rows = rows[np.lexsort((keys[rows], large[rows]))]
        for row in rows[np.sort(np.unique(units[rows], return_index=True)[1])]:
            unit = movable & (units == units[row])
            left = (parts == TRAIN) & ~unit
            if all(
                len(np.unique(units[left & (labels == other)]))
                # One to learn from and, where the test part chooses first, one for validation.
                > (part == TEST and not np.any((labels == other) & (parts == VAL)))
                for other in np.unique(labels[unit])
            ):
                parts[unit] = part
                break


def _check_val(parts: NDArray[np.uint8]) -> None:
    if not np.any(parts == VAL):
        raise SourceError(
            "images for training and for validation that do not belong together",
            f"all {int(np.sum(parts == TRAIN)):,} training images hang together by their groups "
            "or as near duplicates, or stand alone in their class",
            "Add other images, leave --group-by out, or give --near-duplicates apart.",
        )


def find_leaks(
    split: Split, digests: NDArray[np.uint8], pairs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find test images that were also trained or chosen on: exact copies, and near ones.

    Args:
        split: The split.
        digests: Hash of each image's pixels, ``uint8[N, 32]``.
        pairs: Rows of near duplicates, ``int64[M, 2]``.

    Returns:
        Rows of test images with an exact copy outside the test part, and of those that have
        none but a near duplicate there, ``int64[...]`` each.
    """
    flat = as_keys(digests)
    tested = np.zeros(len(flat), bool)
    tested[split.test] = True
    _, content = np.unique(flat, return_inverse=True)
    outside = np.zeros(len(flat), bool)
    outside[content[~tested]] = True
    copied = tested & outside[content]
    # A pair speaks for all exact copies of its two images.
    inside = np.zeros(len(flat), bool)
    inside[content[tested]] = True
    near = np.zeros(len(flat), bool)
    for one, other in (content[pairs].T, content[pairs[:, ::-1]].T):
        near[one[inside[one] & outside[other]]] = True
    return np.flatnonzero(copied), np.flatnonzero(tested & near[content] & ~copied)
