"""Problems of a dataset, the worst first."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BeforeValidator, Field

from opsin.core.arguments import checked
from opsin.core.arrays import Bools, Floats, Ints, Pixels
from opsin.core.events import SILENT, Watcher, watched
from opsin.core.format import counted
from opsin.core.stored_json import JsonObject
from opsin.data.cache import as_keys, index_key, kept_arrays
from opsin.data.dataset import Dataset
from opsin.data.image_tree import left_out_in_words
from opsin.data.lazy_images import THREADS, Images
from opsin.data.spelling import alike_names

# Too few to train or measure on: at ten images the interval spans 0.3. Classes further apart in
# size are learnt unequally.
_FEW, _UNBALANCED = 20, 10.0
_BLOCK_PIXELS: Final = 1_000_000
# A trait shared by more images is normal for the dataset; robust standard deviations (1.4826 times
# the median absolute deviation) that make an outlier.
_RARE, _FAR = 0.05, 5.0
_ON_ONE_SIDE: Final = "leave them out of one side, or let Opsin cut the test part"
# The kinds of findings, the worst first: title, what Opsin does, what only the user can decide.
_KINDS: Final = {
    "untrainable": ("No classifier can be made of these images", "refuses to train", "{advice}"),
    "conflicting-labels": (
        "Duplicates under different labels", "keeps them", "decide which label is right"
    ),
    "test-copies": (
        "Test images with an exact copy outside the test part", "keeps them, {why}", _ON_ONE_SIDE
    ),
    "test-near-duplicates": (
        "Test images with a near duplicate outside the test part", "keeps them, {why}", _ON_ONE_SIDE
    ),
    "test-groups": (
        "Test images of a group that is trained on", "keeps them, {why}",
        "part the groups between training and test",
    ),
    "unreadable": ("Unreadable files", "leaves them out", "mend or remove them"),
    "left-out": (
        "Files and folders that are no images of a class", "leaves them out",
        "put images into the folder of their class, or save them in a format that is read",
    ),
    "repeated-rows": (
        "Rows that name an image once more", "counts each image once",
        "drop them, if they are there by accident",
    ),
    "clipped": (
        "Images with larger numbers than {white}", "takes whatever is above for white",
        "give --bits as the camera has them",
    ),
    "with-unused-bits": (
        "Images of 16 bits a channel that use {bits}",
        "takes {white} for white, in all of them and in the classifier",
        "give --bits if the camera has more, and none of these images is as bright as it can be",
    ),
    "unchecked-classes": (
        "Classes without images for validation or test",
        "trains on all of them, so that their figures say nothing",
        "add images, or cut the split otherwise",
    ),
    "spelled-twice": (
        "Class names that look like one class spelled twice", "keeps them apart",
        "rename the folders or labels if they mean the same",
    ),
    "small-classes": (
        f"Classes of fewer than {_FEW} images",
        "trains with what there is; their figures are uncertain",
        "add images, or leave the class out with --classes",
    ),
    "unbalanced": (
        f"Classes more than {_UNBALANCED:.0f} times smaller than {{largest}}",
        "lets them count more while training",
        "add images, or give --balance none if the world is as uneven",
    ),
    "near-duplicates": (
        "Near duplicates: cropped, resized, mirrored or recoded", "{near}",
        ("leave some out if they are too many of one kind; of films or bursts, name the scene "
        "as their group (--group-by)"),
    ),
    "exact-duplicates": (
        "Images that are there more than once", "keeps them on one side where it cuts the split",
        "leave copies out if they are there by accident",
    ),
    # Images unlike the rest, which are used like the others.
    "empty": ("Nearly empty images", "uses them", "see whether anything is in them"),
    "dark": ("Images dark all over", "uses them", "see whether they can be told apart"),
    "bright": ("Images bright all over", "uses them", "see whether they can be told apart"),
    "blurred": ("Images much softer than the others", "uses them", "see whether they are blurred"),
    "odd-shape": (
        "Images of a shape unlike the others", "uses them", "crop them, or choose --resize"
    ),
    "odd-size": (
        "Images much smaller than the others", "uses them", "see whether enough is left of them"
    ),
    "grey": ("Grey images among coloured ones", "uses them", "see whether they belong here"),
    "coloured": ("Coloured images among grey ones", "uses them", "see whether they belong here"),
}  # fmt: skip


def _rows_of(images: object) -> object:
    # Of images as `Audit.records` returned them.
    if not isinstance(images, list | tuple):
        return images
    return [image.get("row") if isinstance(image, dict) else image for image in images]


@dataclass(frozen=True)
class Case:
    """One example of a finding: images of the dataset, if any, and what is wrong with them."""

    rows: Annotated[
        tuple[int, ...],
        Field(validation_alias=AliasChoices("rows", "images")),
        BeforeValidator(_rows_of),
    ]
    note: str


@dataclass(frozen=True)
class Finding:
    """One kind of problem; pydantic reads it from what `Audit.records` returns.

    Args:
        kind: A short name, such as ``near-duplicates``.
        count: How many images (or classes) are concerned.
        title: What was found.
        opsin: What Opsin does about it by itself.
        yours: What only the user can decide.
        cases: The cases, the worst first.
    """

    kind: str
    count: int
    title: str
    opsin: str
    yours: str
    cases: tuple[Case, ...]

    @cached_property
    def notes(self) -> dict[int, str]:
        """The problem of each image by its row, in the order of the cases."""
        notes: dict[int, str] = {}
        for case in self.cases:
            for row in case.rows:
                notes.setdefault(row, case.note)
        return notes

    @cached_property
    def rows(self) -> Ints:
        """The images concerned, ``int64[…]``, case by case."""
        return np.array(list(self.notes), np.int64)

    @property
    def elsewhere(self) -> list[str]:
        """Notes about no image in particular, such as unreadable files."""
        return [case.note for case in self.cases if not case.rows]


@dataclass(frozen=True)
class Audit:
    """Everything that was found, the worst first.

    Example:
        >>> from opsin.data.dataset import load
        >>> [finding.kind for finding in audit(load("digits")).findings]
        []
    """

    dataset: Dataset
    findings: tuple[Finding, ...]

    def counts(self) -> dict[str, int]:
        """Return the count of each kind of finding."""
        return {finding.kind: finding.count for finding in self.findings}

    def records(self) -> list[JsonObject]:
        """Return all findings as plain data, images by their names and rows."""
        data = self.dataset

        def image(row: int) -> JsonObject:
            label = data.classes[data.labels[row]]
            return {"name": data.names[row], "label": label, "row": int(row)}

        names = ("kind", "count", "title", "opsin", "yours")
        return [
            {name: getattr(finding, name) for name in names}
            | {
                "cases": [
                    {"images": [image(row) for row in case.rows], "note": case.note}
                    for case in finding.cases
                ]
            }
            for finding in self.findings
        ]


#: How many images a kind of finding concerns, and the cases.
_Found = dict[str, tuple[int, Sequence[Case]]]


@checked
def audit(dataset: Dataset, *, watcher: Watcher = SILENT) -> Audit:
    """Look for what goes wrong with images before it goes wrong with a classifier.

    Nothing is removed or changed.

    Args:
        dataset: The images.
        watcher: Receives the progress of the work.
    """
    images, key = dataset.images, index_key("looks 1", dataset.digests.tobytes())
    looks = kept_arrays(
        "looks",
        key,
        lambda: measure(images, watcher=watcher)._asdict(),
        lambda kept: QualityMeasures(**kept),
    )
    cases_by_kind = _copies(dataset) | _files(dataset) | _classes(dataset)
    cases_by_kind |= _odd_images(looks, dataset.sizes)
    problem, bits = dataset.problem, dataset.recipe.bits or 16
    if problem is not None:
        cases_by_kind["untrainable"] = (len(dataset), [Case((), str(problem))])
    counts = np.bincount(dataset.labels)
    largest = int(counts.argmax())
    words = {
        "advice": problem.advice[:1].lower() + problem.advice[1:].rstrip(".") if problem else "",
        "why": "as the test part was given" if dataset.given_test else "as you asked",
        "bits": bits,
        "white": f"{(1 << bits) - 1:,} ({bits} bits)",
        "largest": f"{dataset.classes[largest]!r} ({counted(int(counts[largest]), 'image')})",
        "near": "lets the split part them, as you asked"
        if dataset.recipe.near_duplicates == "apart"
        else "keeps them on one side where it cuts the split",
    }
    findings = []
    for kind, texts in _KINDS.items():
        count, cases = cases_by_kind.get(kind, (0, ()))
        if count:
            title, opsin, yours = (text.format(**words) for text in texts)
            findings.append(Finding(kind, count, title, opsin, yours, tuple(cases)))
    return Audit(dataset, tuple(findings))


def _copies(dataset: Dataset) -> _Found:
    _, content = np.unique(as_keys(dataset.digests), return_inverse=True)
    order = np.argsort(content, kind="stable")
    bundles = np.split(order, np.flatnonzero(np.diff(content[order])) + 1)
    copies = sorted((b.tolist() for b in bundles if len(b) > 1), key=lambda b: (-len(b), b[0]))
    exact = [Case(tuple(rows), "the same pixels") for rows in copies]
    near, labels, tested = dataset.near, dataset.labels, np.zeros(len(dataset), bool)
    tested[dataset.split.test] = True
    pairs = zip(near.pairs.tolist(), near.likeness, near.mirrored, strict=True)
    alike = [
        Case(tuple(pair), f"{'mirrored, ' if turned else ''}{likeness:.2f} alike")
        for pair, likeness, turned in pairs
    ]
    conflicts = [
        Case(case.rows, " or ".join(dataset.classes[k] for k in classes))
        for case in (*exact, *alike)
        if len(classes := np.unique(labels[[*case.rows]])) > 1
    ]

    def across(cases: Sequence[Case]) -> list[Case]:
        return [case for case in cases if len(np.unique(tested[[*case.rows]])) > 1]

    groups, split = dataset.groups or [""] * len(dataset), dataset.split
    known = {groups[row] for row in (*split.train, *split.val)} - {""}
    shared = [int(row) for row in split.test if groups[row] in known]
    return {
        "conflicting-labels": (len({row for case in conflicts for row in case.rows}), conflicts),
        "test-copies": (dataset.leaks[0], across(exact)),
        "test-near-duplicates": (dataset.leaks[1], across(alike)),
        "test-groups": (len(shared), [Case((row,), f"group {groups[row]}") for row in shared]),
        "near-duplicates": (len(np.unique(near.pairs)), alike),
        "exact-duplicates": (sum(len(case.rows) for case in exact), exact),
    }


def _files(dataset: Dataset) -> _Found:
    unreadable, left_out, depths = dataset.unreadable, dataset.left_out, dataset.depths
    bits = dataset.recipe.bits or 16
    clipped = sum(count for depth, count in depths.items() if depth > bits)
    needs = f"the brightest of them needs {max(depths, default=8)} bits"
    broken = [Case((), f"{name}: {reason}") for name, reason in unreadable]
    others = [Case((), left_out_in_words([entry])) for entry in left_out]
    return {
        "unreadable": (len(unreadable), broken),
        "left-out": (sum(entry.count for entry in left_out), others),
        "repeated-rows": (dataset.repeated, ()),
        "clipped": (clipped, [Case((), f"{counted(clipped, 'image')} of more bits")]),
        "with-unused-bits": (sum(depths.values()) if bits < 16 else 0, [Case((), needs)]),
    }


def _classes(dataset: Dataset) -> _Found:
    classes, labels, split = dataset.classes, dataset.labels, dataset.split
    counts = np.bincount(labels, minlength=len(classes))
    smallest_first = np.argsort(counts, kind="stable").tolist()

    def examples(label: int, some: int = 3) -> tuple[int, ...]:
        return tuple(np.flatnonzero(labels == label)[:some].tolist())

    def sizes(some: Sequence[int]) -> tuple[int, list[Case]]:
        return len(some), [
            Case(examples(k), f"{classes[k]}: {counted(int(counts[k]), 'image')}") for k in some
        ]

    judged = [] if dataset.problem or dataset.judged_by_all else ["val", "test"]
    missing = [
        (label, part)
        for part in judged
        for label in sorted({*range(len(classes))} - {*labels[split.rows(part)].tolist()})
        if part == "val" or len(split.test)
    ]
    unchecked = [Case(examples(k), f"{classes[k]}: none for the {part}") for k, part in missing]
    twice = [
        Case(examples(one, 1) + examples(two, 1), f"{classes[one]!r} and {classes[two]!r}")
        for one, two in alike_names(classes)
    ]
    return {
        "unchecked-classes": (len({label for label, _ in missing}), unchecked),
        "spelled-twice": (len(twice), twice),
        "small-classes": sizes([k for k in smallest_first if counts[k] < _FEW]),
        "unbalanced": sizes([k for k in smallest_first if counts[k] * _UNBALANCED < counts.max()]),
    }


class QualityMeasures(NamedTuple):
    """Measures of each image's prepared pixels, ``float32[N]`` each."""

    low: Floats  # the brightness' 2nd percentile
    high: Floats  # its 98th
    contrast: Floats  # its standard deviation
    sharpness: Floats  # its mean absolute Laplacian, as a share of the contrast
    colour: Floats  # the largest difference between two channels


def measure(images: Images, *, watcher: Watcher = SILENT) -> QualityMeasures:
    """Measure every image of ``uint8[N, H, W, C]``."""
    count, height, width, _ = images.shape
    size = max(1, _BLOCK_PIXELS // (height * width))
    with ThreadPoolExecutor(THREADS) as pool:
        starts = range(0, count, size)
        parts = pool.map(lambda start: _measures_of(images[start : start + size]), starts)
        parts = watched(watcher, "Look", count, parts, size=lambda part: part.shape[1])
        return QualityMeasures(*np.concatenate([np.zeros((5, 0), np.float32), *parts], axis=1))


def _measures_of(pixels: Pixels) -> Floats:
    count, height, width, channels = pixels.shape
    measured = np.zeros((5, count), np.float32)
    # Plane by plane: reducing an axis of three takes NumPy ten times as long.
    planes = [pixels[..., channel] for channel in range(channels)]
    if channels == 3:
        colour = functools.reduce(np.maximum, planes) - functools.reduce(np.minimum, planes)
        measured[4] = colour.reshape(count, -1).max(axis=1)
    light = planes[0].astype(np.int16)
    for plane in planes[1:]:
        light += plane
    flat = light.reshape(count, -1)
    low, high = (round(share * (height * width - 1)) for share in (0.02, 0.98))
    ordered = np.partition(flat, (low, high), axis=1)
    measured[0], measured[1] = ordered[:, low] / channels, ordered[:, high] / channels
    contrast = measured[2] = flat.std(axis=1) / channels
    if min(height, width) > 2:
        edges = light[:, :-2, 1:-1] + light[:, 2:, 1:-1]
        edges += light[:, 1:-1, :-2] + light[:, 1:-1, 2:] - 4 * light[:, 1:-1, 1:-1]
        fine = np.abs(edges).mean(axis=(1, 2), dtype=np.float64) / channels
        measured[3] = fine / np.maximum(contrast, 1)
    return measured


def _odd_images(looks: QualityMeasures, sizes: NDArray[np.int32]) -> _Found:
    # Nearly one colour: no other kind applies.
    empty = looks.contrast < 5
    detail = np.log(np.maximum(looks.sharpness, 1e-3))
    usual = float(np.median(detail))
    deviation = 1.4826 * float(np.median(np.abs(detail - usual)))
    soft, away = detail < usual - max(0.7, _FAR * deviation), np.exp(detail - usual)
    # Twice the usual aspect ratio; a sixteenth of the usual area.
    shape = np.log2(sizes[:, 1] / sizes[:, 0])
    stretched = np.abs(shape - np.median(shape))
    area = np.log2(sizes.astype(np.float64).prod(axis=1))
    low, high, colour = looks.low, looks.high, looks.colour
    return {
        "empty": _rare(looks.contrast, empty, "contrast {:.1f} of 255", looks.contrast),
        "dark": _rare(high, (high < 60) & ~empty, "at most {:.0f} of 255", high),
        "bright": _rare(-low, (low > 195) & ~empty, "at least {:.0f} of 255", low),
        "blurred": _rare(detail, soft & ~empty, "{:.0%} of the usual detail", away),
        "odd-shape": _rare(-stretched, stretched >= 1, "{0[0]:,}×{0[1]:,}", sizes),
        "odd-size": _rare(area, area < np.median(area) - 4, "{0[0]:,}×{0[1]:,}", sizes),
        "grey": _rare(colour, colour <= 3, "grey", colour, 0.5),
        "coloured": _rare(-colour, colour > 3, "in colour", colour),
    }


def _rare(
    worst_low: NDArray[Any], which: Bools, note: str, shown: NDArray[Any], most: float = _RARE
) -> tuple[int, list[Case]]:
    rows = np.flatnonzero(which)
    # A single one is always rare.
    if len(rows) > max(1, most * len(which)):
        return 0, []
    rows = rows[np.argsort(worst_low[rows], kind="stable")]
    return len(rows), [Case((int(row),), note.format(shown[row])) for row in rows]
