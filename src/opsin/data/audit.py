"""What is wrong with these images, the worst first."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BeforeValidator, Field

from opsin.core.arguments import checked
from opsin.core.events import SILENT, Watcher
from opsin.core.format import counted
from opsin.core.stored_json import JsonObject
from opsin.data import quality
from opsin.data.cache import as_keys
from opsin.data.dataset import Dataset
from opsin.data.left_out import left_out_in_words
from opsin.data.spelling import alike_names

# Fewer images than this teach little, and judge nothing: at ten the interval spans 0.3.
_FEW: Final = 20
# Classes further apart in size than this are learnt unequally.
_UNBALANCED: Final = 10.0
_ONE_SIDE: Final = "keeps them on one side where it cuts the split"
# What is odd about images, in words, and what only the user can decide.
_LOOKS: Final = {
    "empty": ("Nearly empty images", "see whether anything is in them"),
    "dark": ("Images dark all over", "see whether they can be told apart"),
    "bright": ("Images bright all over", "see whether they can be told apart"),
    "blurred": ("Images much softer than the others", "see whether they are blurred"),
    "odd-shape": ("Images of a shape unlike the others", "crop them, or choose --resize"),
    "odd-size": ("Images much smaller than the others", "see whether enough is left of them"),
    "grey": ("Grey images among coloured ones", "see whether they belong here"),
    "coloured": ("Coloured images among grey ones", "see whether they belong here"),
}


def _rows_of(images: object) -> object:
    """Return the rows of images that `Audit.to_json` has named."""
    if not isinstance(images, list | tuple):
        return images
    return [each.get("row") if isinstance(each, dict) else each for each in images]


@dataclass(frozen=True)
class Case:
    """One example of a finding.

    Args:
        rows: The images concerned, of the dataset; none for files that cannot be read.
        note: What is wrong with them, in a few words.
    """

    rows: Annotated[
        tuple[int, ...],
        Field(validation_alias=AliasChoices("rows", "images")),
        BeforeValidator(_rows_of),
    ]
    note: str


@dataclass(frozen=True)
class Finding:
    """One kind of trouble; pydantic reads it from what `Audit.to_json` has made of it.

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
        """What is wrong with each of the images, by their rows; in the order of the cases."""
        found: dict[int, str] = {}
        for case in self.cases:
            for row in case.rows:
                found.setdefault(row, case.note)
        return found

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The images concerned, ``int64[…]``, case by case."""
        return np.array(list(self.notes), np.int64)

    @property
    def elsewhere(self) -> list[str]:
        """What is said where there is no image, such as of files that cannot be read."""
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

    def _repr_html_(self) -> str:
        if not self.findings:
            return "<p>Nothing suspicious was found.</p>"
        rows = "".join(
            f"<tr><td>{finding.count:,}</td><td>{html.escape(finding.title)}</td>"
            f"<td>{html.escape(finding.opsin)}</td><td>{html.escape(finding.yours)}</td></tr>"
            for finding in self.findings
        )
        heads = "".join(f"<th>{head}</th>" for head in ("count", "found", "Opsin", "you"))
        return f"<table><tr>{heads}</tr>{rows}</table>"

    def to_json(self) -> list[JsonObject]:
        """Return all findings as plain data, images by their names and rows."""
        data = self.dataset

        def image(row: int) -> JsonObject:
            label = data.classes[data.labels[row]]
            return {"name": data.names[row], "label": label, "row": int(row)}

        return [
            {
                "kind": finding.kind,
                "count": finding.count,
                "title": finding.title,
                "opsin": finding.opsin,
                "yours": finding.yours,
                "cases": [
                    {"images": [image(row) for row in case.rows], "note": case.note}
                    for case in finding.cases
                ],
            }
            for finding in self.findings
        ]


@checked
def audit(dataset: Dataset, *, watcher: Watcher = SILENT) -> Audit:
    """Look for what goes wrong with images before it goes wrong with a classifier.

    Nothing is removed or changed.

    Args:
        dataset: The images.
        watcher: Receives the progress of the work.
    """
    looks = quality.odd_images(quality.measure(dataset.images, watcher=watcher), dataset.sizes)
    wrong, copies = _duplicates(dataset)
    found = [*wrong, *_groups(dataset), *_files(dataset), *_classes(dataset), *copies]
    for kind, odd in looks.items():
        title, yours = _LOOKS[kind]
        cases = tuple(Case((row,), note) for row, note in odd)
        found.append(Finding(kind, len(odd), title, "uses them like the others", yours, cases))
    if (problem := dataset.problem) is not None:
        yours = problem.advice[:1].lower() + problem.advice[1:].rstrip(".")
        title, cases = "No classifier can be made of these images", (Case((), str(problem)),)
        found.insert(
            0, Finding("untrainable", len(dataset), title, "refuses to train", yours, cases)
        )
    return Audit(dataset, tuple(finding for finding in found if finding.count))


def _copies(dataset: Dataset) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Return exact copies, most first, and pairs of near ones, the most alike first."""
    _, content = np.unique(as_keys(dataset.digests), return_inverse=True)
    order = np.argsort(content, kind="stable")
    bundles = np.split(order, np.flatnonzero(np.diff(content[order])) + 1)
    copies = sorted((b.tolist() for b in bundles if len(b) > 1), key=lambda b: (-len(b), b[0]))
    near = dataset.near
    alike = tuple(
        Case((int(one), int(other)), f"{'mirrored, ' if turned else ''}{likeness:.2f} alike")
        for (one, other), likeness, turned in zip(
            near.pairs, near.likeness, near.mirrored, strict=True
        )
    )
    return tuple(Case(tuple(rows), "the same pixels") for rows in copies), alike


def _duplicates(dataset: Dataset) -> tuple[list[Finding], list[Finding]]:
    """Return what is wrong with copies, and which there are."""
    labels, tested = dataset.labels, np.zeros(len(dataset), bool)
    tested[dataset.split.test] = True
    exact, alike = _copies(dataset)
    conflicts = tuple(
        Case(case.rows, " or ".join(dataset.classes[k] for k in np.unique(labels[[*case.rows]])))
        for case in (*exact, *alike)
        if len(np.unique(labels[[*case.rows]])) > 1
    )
    wrong = [
        Finding(
            "conflicting-labels",
            len({row for case in conflicts for row in case.rows}),
            "Duplicates under different labels",
            "keeps them",
            "decide which label is right",
            conflicts,
        )
    ]
    wrong += [
        Finding(
            kind,
            count,
            f"Test images with {what} outside the test part",
            f"keeps them, {_why_apart(dataset)}, and says so in the report",
            "leave them out of one side, or let Opsin cut the test part",
            tuple(case for case in cases if len(np.unique(tested[[*case.rows]])) > 1),
        )
        for kind, count, what, cases in (
            ("test-copies", dataset.leaks[0], "an exact copy", exact),
            ("test-near-duplicates", dataset.leaks[1], "a near duplicate", alike),
        )
    ]
    apart = dataset.recipe.near_duplicates == "apart"
    there = [
        Finding(
            "near-duplicates",
            len(np.unique(dataset.near.pairs)),
            "Near duplicates: cropped, resized, mirrored or recoded",
            "lets the split part them, as you asked" if apart else _ONE_SIDE,
            "leave some out if they are too many of one kind; of films or bursts, name the scene "
            "as their group (--group-by)",
            alike,
        ),
        Finding(
            "exact-duplicates",
            sum(len(case.rows) for case in exact),
            "Images that are there more than once",
            _ONE_SIDE,
            "leave copies out if they are there by accident",
            exact,
        ),
    ]
    return wrong, there


def _why_apart(dataset: Dataset) -> str:
    return "as the test part was given" if dataset.given_test else "as you asked"


def _groups(dataset: Dataset) -> Iterator[Finding]:
    groups, split = dataset.groups, dataset.split
    if not groups:
        return
    seen = {groups[row] for part in ("train", "val") for row in split.rows(part)} - {""}
    rows = [int(row) for row in split.test if groups[row] in seen]
    yield Finding(
        "test-groups",
        len(rows),
        "Test images of a group that is trained on",
        f"keeps them, {_why_apart(dataset)}",
        "part the groups between training and test",
        tuple(Case((row,), f"group {groups[row]}") for row in rows),
    )


def _files(dataset: Dataset) -> Iterator[Finding]:
    yield Finding(
        "unreadable",
        len(dataset.unreadable),
        "Unreadable files",
        "leaves them out",
        "mend or remove them",
        tuple(Case((), f"{name}: {reason}") for name, reason in dataset.unreadable),
    )
    yield Finding(
        "left-out",
        sum(each.count for each in dataset.left_out),
        "Files and folders that are no images of a class",
        "leaves them out",
        "put images into the folder of their class, or save them in a format that is read",
        tuple(Case((), left_out_in_words([each])) for each in dataset.left_out),
    )
    yield Finding(
        "repeated-rows",
        dataset.repeated,
        "Rows that name an image once more",
        "counts each image once",
        "drop them, if they are there by accident",
        (),
    )
    bits = dataset.recipe.bits or 16
    white = f"{(1 << bits) - 1:,} ({bits} bits)"
    clipped = sum(count for depth, count in dataset.depths.items() if depth > bits)
    yield Finding(
        "clipped",
        clipped,
        f"Images with larger numbers than {white}",
        "takes whatever is above for white",
        "give --bits as the camera has them",
        (Case((), f"{counted(clipped, 'image')} of more bits"),),
    )
    yield Finding(
        "with-unused-bits",
        sum(dataset.depths.values()) if bits < 16 else 0,
        f"Images of 16 bits a channel that use {bits}",
        f"takes {white} for white, in all of them and in the classifier",
        "give --bits if the camera has more, and none of these images is as bright as it can be",
        (Case((), f"the brightest of them needs {max(dataset.depths, default=8)} bits"),),
    )


def _classes(dataset: Dataset) -> Iterator[Finding]:
    classes = dataset.classes
    counts = np.bincount(dataset.labels, minlength=len(classes))
    smallest_first = np.argsort(counts, kind="stable").tolist()
    most = int(counts.argmax())

    def examples(label: int, some: int = 3) -> tuple[int, ...]:
        return tuple(np.flatnonzero(dataset.labels == label)[:some].tolist())

    def sizes(labels: list[int]) -> tuple[Case, ...]:
        return tuple(
            Case(examples(k), f"{classes[k]}: {counted(int(counts[k]), 'image')}") for k in labels
        )

    missing = [
        (label, part)
        for part in (["val", "test"] if len(dataset.split.test) else ["val"])
        for label in range(len(classes))
        if not np.any(dataset.labels[dataset.split.rows(part)] == label)
    ]
    if dataset.problem is None and not dataset.judged_by_all:
        yield Finding(
            "unchecked-classes",
            len({label for label, _ in missing}),
            "Classes without images for validation or test",
            "trains on all of them, so that their figures say nothing",
            "add images, or cut the split otherwise",
            tuple(Case(examples(k), f"{classes[k]}: none for the {part}") for k, part in missing),
        )
    pairs = alike_names(classes)
    yield Finding(
        "spelled-twice",
        len(pairs),
        "Class names that look like one class spelled twice",
        "keeps them apart",
        "rename the folders or labels if they mean the same",
        tuple(
            Case(examples(one, 1) + examples(two, 1), f"{classes[one]!r} and {classes[two]!r}")
            for one, two in pairs
        ),
    )
    small = [label for label in smallest_first if counts[label] < _FEW]
    yield Finding(
        "small-classes",
        len(small),
        f"Classes of fewer than {_FEW} images",
        "trains with what there is; their figures are uncertain",
        "add images, or leave the class out with --classes",
        sizes(small),
    )
    behind = [label for label in smallest_first if counts[label] * _UNBALANCED < counts[most]]
    yield Finding(
        "unbalanced",
        len(behind),
        f"Classes more than {_UNBALANCED:.0f} times smaller than {classes[most]!r} "
        f"({counted(int(counts[most]), 'image')})",
        "lets them count more while training",
        "add images, or give --balance none if the world is as uneven",
        sizes(behind),
    )
