"""Images with labels, classes and a split, ready for use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.core.arguments import checked
from opsin.core.artifacts.records import AuditCounts, DatasetRecord, Location, Unreadable
from opsin.core.errors import RecipeError, SourceError
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted, grey_or_colour
from opsin.core.metadata import Preparation
from opsin.core.recipe import DataRecipe
from opsin.data import sources, split as cuts
from opsin.data.corrections import Decoded, correct
from opsin.data.fill_cache import read_by_default, read_located
from opsin.data.near_duplicates import NO_PAIRS, NearDuplicates, near_duplicates
from opsin.data.network_pixels import measure_background
from opsin.data.sources import arrays
from opsin.data.sources.contents import LocatedSource, check_classes
from opsin.data.sources.named import is_place
from opsin.data.sources.parquet import located_frame, title_of
from opsin.data.split import TEST, TRAIN, VAL, Split, SplitInputs, make_split

# Most classes whose counts are named in a line, and most characters of them together.
_FEW_CLASSES, _SHORT = 6, 200


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Dataset(Decoded):
    """A collection of labelled images, decoded, with its split.

    Args:
        images: ``uint8[N, H, W, C]``, memory-mapped, read-only.
        classes: Class names in the order of their labels.
        labels: Class index of each image, ``int64[N]``.
        source_parts: Which part its source puts each image in, ``uint8[N]``: 0 none, 1 train, 2
            val, 3 test.
        digests: SHA-256 of each image's pixels, ``uint8[N, 32]``.
        source_digests: SHA-256 of each image's file or array, ``uint8[N, 32]``.
        sizes: Height and width of each image before it was prepared, ``int32[N, 2]``.
        ranges: Lowest and highest value of each image, ``uint8[N, 2]``.
        names: Each image's path below the source, or ``train/123``.
        groups: What each image shares with others of one side of the split, ``""`` for none.
        mirrored: Whether a mirrored image is still of its class.
        unreadable: Name and reason of each file that was skipped.
        repeated: Number of a table's rows that named an image once more.
        rows: The images' rows in the source, before corrections, ``int64[N]``.
        source_labels: The labels before corrections, ``int64[N]``, if there are any.
        corrected: Summary of the user's corrections of labels, if there are any.
        corrections: The corrections themselves.
        left_out: What the source holds beside the images, by kind.
        bits: Bits assumed for values of more than a byte; ``None`` without such values.
        depths: Number of images by the bits that they use, if these are more than 8.
        recipe: The request, with size and channels resolved.
        fingerprint: SHA-256 of the content, whatever the order of the images.
        units: Equal numbers for images that belong together (copies, groups and, unless they may
            be apart, near duplicates), ``int64[N]``.
        near: Near duplicates.
        split: Rows for training, validation and test.
        subjects: What the split was made of.
        problem: Why no classifier can be trained on these images, if so (`look_at` only).
        held: The images before decoding, if they were passed as objects.
        fold: The fold that each image was judged in by the run that new ones are added to, -1 for
            others, ``int64[N]``; ``None`` without such a run.

    Example:
        >>> data = load("digits")
        >>> data.images.shape, data.classes[:3]
        ((1797, 8, 8, 1), ('0', '1', '2'))
    """

    recipe: DataRecipe
    fingerprint: str
    units: NDArray[np.int64]
    near: NearDuplicates
    split: Split
    subjects: SplitInputs
    problem: SourceError | None = None
    held: LocatedSource | None = None
    fold: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<Dataset {self.recipe.source}: {self.summary()}>"

    @cached_property
    def preparation(self) -> Preparation:
        """The preparation of images for the classifier trained on these."""
        _, height, width, channels = self.images.shape
        train = self.images[self.split.train[:: max(1, len(self.split.train) // 500)]]
        return Preparation(
            height=height,
            width=width,
            channels=channels,
            resize=self.recipe.resize,
            background=measure_background(train),
            bits=self.recipe.bits,
        )

    @property
    def located(self) -> DataRecipe:
        """The recipe with absolute paths."""

        def placed(source: str) -> str:
            path = os.path.abspath(os.path.expanduser(source))  # noqa: PTH100, PTH111
            there = is_place(source) and os.path.exists(path)  # noqa: PTH110
            return path if there else source

        others = {name: getattr(self.recipe, name) for name in ("test", "labels", "parts_of")}
        update: dict[str, object] = {name: placed(at) for name, at in others.items() if at}
        update["sources"] = tuple(map(placed, self.recipe.sources))
        return self.recipe.model_copy(update=update)

    @property
    def given_parts(self) -> tuple[str, ...]:
        """Parts among ``train``, ``val`` and ``test`` that the source assigns."""
        codes = {"train": TRAIN, "val": VAL, "test": TEST}
        return tuple(part for part, code in codes.items() if np.any(self.source_parts == code))

    @property
    def given_test(self) -> bool:
        """Whether the source assigns its test images."""
        return "test" in self.given_parts

    @property
    def judged_by_all(self) -> bool:
        """Whether all images are trained on, and each is scored by a model that never saw it."""
        return len(self.split.train) == len(self) and self.problem is None

    @cached_property
    def leaking(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of test images with an exact, or only a near, duplicate in the other parts."""
        return cuts.find_leaks(self.split, self.digests, self.near.pairs)

    @property
    def leaks(self) -> tuple[int, int]:
        """Number of test images with an exact, and with only a near, duplicate."""
        exact, near = self.leaking
        return len(exact), len(near)

    @property
    def test_is_copied(self) -> bool:
        """Whether every test image has an exact copy in the other parts."""
        return 0 < len(self.split.test) == len(self.leaking[0])

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images by class and by part of the split."""
        counts = {name: {"train": 0, "val": 0, "test": 0} for name in self.classes}
        for part in ("train", "val", "test"):
            for label in self.labels[self.split.rows(part)].tolist():
                counts[self.classes[label]][part] += 1
        return counts

    def summary(self) -> str:
        """Return a one-line summary."""
        _, height, width, channels = self.images.shape
        sizes = {part: len(self.split.rows(part)) for part in ("train", "val", "test")}
        parts = ", ".join(f"{size:,} {part}" for part, size in sizes.items() if size)
        images = f"{counted(len(self), 'image')} {height}×{width} {grey_or_colour(channels)}"
        if not self.judged_by_all:
            return f"{images} · {len(self.classes)} classes · {parts}"
        counts = np.bincount(self.labels, minlength=len(self.classes))
        named = [f"{name} {count:,}" for name, count in zip(self.classes, counts, strict=True)]
        some = f" ({', '.join(named)})" if len(named) <= _FEW_CLASSES else ""
        some = some if len(some) <= _SHORT else ""  # names have up to 10,000 characters
        return f"{images} · {len(self.classes)} classes{some}"

    def describe(self) -> DatasetRecord:
        """Return the record of the dataset in a run's ``dataset.json``."""
        located = self.located
        audit = AuditCounts(
            unreadable=len(self.unreadable),
            repeated_rows=self.repeated,
            near_duplicates=len(self.near.pairs),
            test_copies_in_training=self.leaks[0],
            test_near_duplicates_in_training=self.leaks[1],
        )
        return DatasetRecord(
            source=self.recipe.source,
            location=Location(
                sources=list(located.sources), test=located.test, labels=located.labels
            ),
            fingerprint=self.fingerprint,
            classes=list(self.classes),
            images=len(self),
            shape=list(self.images.shape[1:]),
            dtype="uint8",
            range=[int(self.ranges[:, 0].min()), int(self.ranges[:, 1].max())],
            counts=self.counts(),
            groups=len(set(self.groups) - {""}),
            problem=str(self.problem) if self.problem else None,
            corrections=self.corrected,
            preparation=self.preparation,
            audit=audit,
            unreadable=[Unreadable(name=name, reason=reason) for name, reason in self.unreadable],
            left_out=list(self.left_out),
        )


@checked
def load(*sources: object, watcher: Watcher = SILENT, **options: Any) -> Dataset:
    """Load images sorted by label.

    Args:
        *sources: Named sources (``fashion-mnist``, ``digits``), folders, tables, archives, arrays
            (see `docs/reference/sources.md`), or data frames of pandas or Polars; several are
            joined into one.
        watcher: Receives the progress of the work.
        **options: Fields of `DataRecipe`: ``test``, ``classes``, ``size``, ``val_fraction`` …

    Raises:
        SourceError: The source is missing, damaged, or no classifier can be made from it.
        RecipeError: An option has an impossible value.

    Example:
        >>> load("digits", classes=["3", "8"]).classes
        ('3', '8')
    """
    recipe, located = resolve_sources(sources, {**options}, watcher)
    return load_recipe(recipe, located=located, watcher=watcher)


def resolve_sources(
    inputs: Sequence[object], options: dict[str, Any], watcher: Watcher
) -> tuple[DataRecipe, LocatedSource | None]:
    """Return the recipe of the inputs of `load`, with those passed as objects located."""
    test = options.get("test")
    everything = [*inputs, *([] if test is None else [test])]
    names: list[str] = []
    for source in everything:
        name = os.fspath(source) if isinstance(source, str | os.PathLike) else title_of(source)
        again = sum(other.split(" ")[0] == name for other in names)
        frame = not isinstance(source, str | os.PathLike)
        names.append(f"{name} {again + 1}" if frame and again else name)
    if test is not None:
        options = {**options, "test": names[-1]}
    recipe = DataRecipe.of(*names[: len(inputs)], **options)
    held = {
        name: located_frame(source, name, recipe.columns, watcher=watcher)
        for name, source in zip(names, everything, strict=True)
        if not isinstance(source, str | os.PathLike)
    }
    return recipe, sources.find_all(recipe, held=held, watcher=watcher) if held else None


def load_recipe(
    recipe: DataRecipe,
    *,
    watcher: Watcher = SILENT,
    located: LocatedSource | None = None,
    missing_ok: bool = False,
    for_training: bool = True,
    prove: Callable[[Decoded], Decoded] | None = None,
) -> Dataset:
    """Load the dataset of a checked recipe."""
    # Listing a folder, or asking the hub, is done once.
    source = located or sources.find_all(recipe, watcher=watcher)
    before, decoded = read_corrected(
        recipe, located=source, watcher=watcher, for_training=for_training, missing_ok=missing_ok
    )
    if prove is not None:
        decoded = prove(decoded)
    rows, groups = decoded.rows, before.groups
    if recipe.group_by:
        groups = cuts.groups_by_name(before.names, recipe)
    # By the default preparation, so that the parts do not depend on the recipe's.
    alike, mirrored = read_by_default(source, recipe, before, watcher), before.mirrored
    near = near_duplicates(alike.images, alike.digests, mirrored=mirrored, watcher=watcher)
    together = near if recipe.near_duplicates == "together" else NO_PAIRS
    units = cuts.split_groups(before.digests, groups, together.pairs)
    if alike is not before:  # duplicates in either preparation
        units = cuts.split_groups(
            alike.digests, [], np.stack([np.arange(len(units)), units], axis=1)
        )
    kinds = (before.digests, before.source_digests)
    recorded = cuts.recorded_parts(recipe.parts_of, kinds, watcher) if recipe.parts_of else None
    subjects = SplitInputs(
        before.labels,
        before.digests,
        before.source_digests,
        before.source_parts,
        before.classes,
        units,
        groups,
        recorded,
        corrected=(rows, decoded.labels, decoded.classes),
    )
    problem, codes = None, decoded.source_parts
    try:
        check_classes(recipe.source, decoded.classes, decoded.labels, codes)
        split = make_split(subjects, recipe)
    except SourceError as error:
        if for_training:
            raise
        problem = error
        split = Split(*map(np.flatnonzero, (codes <= TRAIN, codes == VAL, codes == TEST)))
    _, first, unit = np.unique(units[rows], return_index=True, return_inverse=True)
    _, height, width, channels = decoded.images.shape
    used = {"size": (height, width), "channels": channels, "bits": recipe.bits or decoded.bits}
    return Dataset(
        **vars(decoded) | {"groups": [groups[row] for row in rows] if groups else []},
        recipe=recipe.model_copy(update=used),
        fingerprint=fingerprint_of(decoded),
        units=first[unit],
        near=near.among(rows),
        split=split,
        subjects=subjects,
        problem=problem,
        held=located,
    )


def read_corrected(
    recipe: DataRecipe,
    *,
    located: LocatedSource | None = None,
    watcher: Watcher = SILENT,
    for_training: bool = True,
    missing_ok: bool = False,
) -> tuple[Decoded, Decoded]:
    """Read a source's images; return them before and after the user's corrections."""
    located = located or sources.find_all(recipe, watcher=watcher)
    # Corrected labels decide whether a classifier can be trained.
    for_training = for_training and recipe.labels is None
    decoded = read_located(located, recipe, watcher, for_training=for_training)
    if recipe.labels is None:
        return decoded, decoded
    return decoded, correct(decoded, recipe.labels, missing_ok=missing_ok, watcher=watcher)


@checked
def look_at(*sources: object, watcher: Watcher = SILENT, **options: Any) -> Dataset:
    """Load images for inspection, even if unfit for training (see ``problem``).

    Raises:
        SourceError: The source is missing or damaged, or holds no images.
        RecipeError: An option has an impossible value.
    """
    recipe, located = resolve_sources(sources, {**options}, watcher)
    return load_recipe(recipe, located=located, watcher=watcher, for_training=False)


@checked
def from_arrays(
    images: NDArray[Any],
    labels: NDArray[Any] | Sequence[int],
    classes: Sequence[str] | None = None,
    *,
    test: tuple[NDArray[Any], NDArray[Any] | Sequence[int]] | None = None,
    groups: Sequence[str] = (),
    name: str = "arrays",
    watcher: Watcher = SILENT,
    **options: Any,
) -> Dataset:
    """Make a dataset of images and labels in memory.

    Args:
        images: ``[N, H, W]`` or ``[N, H, W, C]`` with one or three channels; whole numbers from 0
            (black) to 255 (white), or of 10, 12, 14 or 16 bits, fractions from 0 to 1, or ``bool``.
        labels: ``[N]`` whole numbers from 0.
        classes: A name for each label (default: the numbers).
        test: Images and labels of a test set.
        groups: What each image shares with others (a person, a film), so that they stay on one
            side of the split; ``""`` for none.
        name: What to call the collection.
        watcher: Receives the progress of the work.
        **options: Fields of `DataRecipe`, but for ``classes`` and ``labels``.

    Raises:
        SourceError: Shapes, types or numbers do not go together.
        RecipeError: An option has an impossible value.

    Example:
        >>> pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
        >>> from_arrays(pixels, [0] * 10 + [1] * 10, ["cat", "dog"]).summary()
        '20 images 8×8 grey · 2 classes · 16 train, 2 val, 2 test'
    """
    recipe = DataRecipe.of(name, **options)
    contents = arrays.from_arrays(
        images, labels, classes, source=name, test=test, note=watcher.note
    )
    if len(groups):
        if len(groups) != len(contents) or not all(isinstance(group, str) for group in groups):
            raise SourceError(
                f"{name} has {len(contents):,} images and {len(groups):,} groups; a text is "
                "expected for each image, those of the test behind the others",
                "Give an empty text for an image without a group.",
            )
        contents = replace(contents, groups=list(groups))
    return load_recipe(recipe, located=contents.located(), watcher=watcher)


def fingerprint_of(decoded: Decoded) -> str:
    """Return the SHA-256 of all pixels and classes, whatever the order of the images."""
    names = [name.encode("utf-8", "surrogateescape") for name in decoded.classes]
    rows = sorted(
        digest.tobytes() + names[label]
        for digest, label in zip(decoded.digests, decoded.labels, strict=True)
    )
    return hashlib.sha256(b"\0".join(rows)).hexdigest()


def cut_into_folds(dataset: Dataset, folds: int) -> list[Dataset]:
    """Return the dataset once for each fold, with that fold as its test part."""
    if dataset.recipe.fold:
        raise RecipeError(f"{folds} folds and the fold {dataset.recipe.fold} exclude each other")
    # Any other split comes from the source or a run.
    expected = make_split(dataset.subjects, dataset.recipe)
    named = dataset.given_parts or dataset.recipe.parts_of
    if named or not all(
        np.array_equal(expected.rows(part), dataset.split.rows(part))
        for part in ("train", "val", "test")
    ):
        raise RecipeError(
            f"{dataset.recipe.parts_of or dataset.recipe.source} says itself which images are for "
            f"{'the test' if dataset.given_test else 'training'}",
            "Use --repeats, or give the images without their parts.",
        )
    parts = []
    for number in range(1, folds + 1):
        recipe = dataset.recipe.model_copy(update={"fold": f"{number}/{folds}"})
        split = make_split(dataset.subjects, recipe)
        if not len(split.test):
            raise RecipeError(
                f"{folds} folds are too many: {len(np.unique(dataset.units)):,} independent images "
                f"leave fold {number} without any to test",
                "Give fewer folds, or add images that are independent of these.",
            )
        parts.append(replace(dataset, recipe=recipe, split=split))
    return parts


def thin_parts(dataset: Dataset) -> str:
    """Describe a part that has far fewer images than requested, or lacks a class."""
    recipe, split = dataset.recipe, dataset.split
    if recipe.fold or dataset.problem:
        return ""
    sentences, given = [], ("test", "val") if dataset.judged_by_all else dataset.given_parts
    for part, name, share, cut in (
        ("test", "the test", recipe.test_fraction, not given),
        ("val", "validation", recipe.val_fraction, "val" not in given),
    ):
        rest = len(dataset) - (len(split.test) if part == "val" else 0)
        wanted, count = share * rest, len(split.rows(part))
        if cut and wanted >= 4 and count < wanted / 2:  # fewer vary by chance
            sentences.append(
                f"Only {count:,} of {len(dataset):,} images are for {name}, where {wanted:,.0f} "
                "were asked for: many belong together, as groups or near duplicates."
            )
    part, name = ("test", "test") if len(split.test) else ("val", "validation")
    there, why = np.unique(dataset.labels[split.rows(part)]), f"no {name} image is of"
    if dataset.judged_by_all:
        there = cuts.labels_of_several(dataset.labels, dataset.units)
        why = "no image is independent of the others of"
    absent = [class_name for label, class_name in enumerate(dataset.classes) if label not in there]
    if absent:
        more = f" and {len(absent) - 5:,} more" if len(absent) > 5 else ""
        sentences.append(
            f"The figure says nothing of {', '.join(absent[:5])}{more}: {why} "
            f"{'this class' if len(absent) == 1 else 'these classes'}."
        )
    return " ".join(sentences)
