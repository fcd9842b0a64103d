"""Classes merged, renamed, removed and split, as rows of a table of corrections; undone there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from opsin.core.arguments import checked
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.errors import MissingExtraError, RecipeError
from opsin.core.events import SILENT, Watcher
from opsin.core.recipe import DataRecipe
from opsin.core.storage import check_writable
from opsin.data import sources
from opsin.data.corrections import (
    LEFT_OUT,
    Correction,
    classes_now,
    read_corrections,
    write_corrections,
)
from opsin.data.dataset import read_corrected
from opsin.data.image_tree import is_run
from opsin.data.lazy_images import subset
from opsin.data.run_images import recipe_of_run
from opsin.data.spelling import check_choices, nfc, places_among


class ClassChange(BaseModel, frozen=True):
    """The result of `change_classes`."""

    labels: Path | None  #: The table, or ``None`` where groups are only shown
    classes: tuple[str, ...]  #: The classes now
    #: Names of the images in each group of the class that is split, the most typical first
    groups: tuple[tuple[str, ...], ...] = ()
    sheet: Path | None = None  #: Their contact sheet
    command: str = ""  #: What trains on the classes now


@checked
def change_classes(
    *inputs: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    call: Mapping[str, str | None] | None = None,
    split: str | None = None,
    names: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT,
    **options: Any,
) -> ClassChange:
    """Change the classes of a source or a run in a table of corrections; images stay untouched.

    Training with that table takes the classes as they are then: ``train(source, labels=…)``.
    `undo_classes` takes the last change back. A name in other letters is the class that is there.

    Args:
        *inputs: Sources, or a run, whose sources and corrections are taken.
        labels: The table, which is made if there is none.
        call: New names by the present ones: the same name makes several classes one, ``None``
            leaves their images out.
        split: A class whose images are grouped by a pretrained network's features.
        names: A class for each group, the largest first; one may be named twice. Without names,
            groups are only shown.
        out: Folder for ``split.png``, the groups' most typical images.
        watcher: Receives the progress of the work.
        **options: Fields of `DataRecipe` about reading: ``columns`` …

    Raises:
        RecipeError: There is no such class, or one of a new name; or the names are not as many as
            the groups.
        SourceError: The source or the table is damaged.
        StorageError: The disk refuses the table.

    Example:
        >>> change_classes("digits", labels="labels.csv", call={"3": "three"})  # doctest: +SKIP
        ClassChange(labels=PosixPath('labels.csv'), classes=('0', '1', '2', 'three', …
    """
    table = None if labels is None else Path(labels)
    recipe = _recipe_of(*inputs, **options)
    if table is not None:
        _check_own(table)
        check_writable(table)
        if table.is_file():
            recipe = recipe.model_copy(update={"labels": str(table)})
    elif call or names:
        raise RecipeError("Changes of classes are kept in a table", "Name it: --labels FILE.csv.")
    rows = read_corrections(recipe.labels) if recipe.labels else []
    own = sources.find_all(recipe, watcher=watcher).open().keep(recipe.classes).classes
    classes = _present(recipe.labels, rows, own)
    edit = max((row.edit for row in rows), default=0) + 1
    new = [
        Correction("", "", name, class_=old, edit=edit)
        for old, name in _called(call or {}, classes).items()
        if name != old
    ]
    groups: tuple[tuple[str, ...], ...] = ()
    sheet = None
    if split is not None:
        class_, called = _known(split, classes), classes_now(recipe.labels or "", rows, own)
        among = tuple(name for name in own if called[nfc(name)] == class_)
        alone = among and all(row.class_ for row in rows)  # no image has a row of its own
        whole = {"classes": among, "labels": None} if alone else {}
        groups, sheet = _groups_of(recipe.model_copy(update=whole), class_, out, watcher)
        if names and len(names) != len(groups):
            raise RecipeError(
                f"{split} falls into {len(groups)} groups, and {len(names)} names are given",
                "Name each; the same name twice makes two groups one.",
            )
        for group, name in zip(groups, names, strict=False):
            class_ = _spelt(name, [*classes, *(row.class_ for row in new)])
            new.append(Correction("", "", class_, class_=class_, edit=edit))
            new += [Correction("", image, class_, edit=edit) for image in group]
    if table is not None and new:
        write_corrections(table, [*rows, *new])
    words = [*recipe.sources, *(["--labels", str(table)] if table else [])]
    return ClassChange(
        labels=table if new else None,
        classes=_present(recipe.labels, [*rows, *new], own),
        groups=groups,
        sheet=sheet,
        command=f"opsin train {shlex.join(words)}",
    )


@checked
def undo_classes(labels: str | os.PathLike[str]) -> int:
    """Take back the last change of classes in a table; return how many of its rows went.

    Raises:
        RecipeError: The table holds no such change, or is a run's record of what it learnt from.
        SourceError: The table is damaged.
    """
    _check_own(Path(labels))
    rows = read_corrections(labels)
    last = max((row.edit for row in rows), default=0)
    if not last:
        raise RecipeError(f"{labels} holds no change of classes", "There is nothing to undo.")
    kept = [row for row in rows if row.edit != last]
    write_corrections(labels, kept)
    return len(rows) - len(kept)


def classes_of(place: str) -> tuple[str, ...]:
    """The classes of a run, or of a source."""
    recipe = _recipe_of(place)
    own = sources.find_all(recipe).open().keep(recipe.classes).classes
    return _present(recipe.labels, read_corrections(recipe.labels) if recipe.labels else [], own)


def _recipe_of(*inputs: str | os.PathLike[str], **options: Any) -> DataRecipe:
    """How sources are read, or how a run has read its own."""
    if len(inputs) == 1 and is_run(os.fspath(inputs[0])):
        return recipe_of_run(RunDirectory.open(inputs[0])).model_copy(update=options)
    return DataRecipe.of(*(os.fspath(place) for place in inputs), **options)


def _check_own(table: Path) -> None:
    if is_run(os.fspath(table.absolute().parent)):
        raise RecipeError(
            f"{table} is the record of what a run learnt from", "Give a table outside the run."
        )


def _present(
    table: str | None, rows: Sequence[Correction], classes: Sequence[str]
) -> tuple[str, ...]:
    """The classes that a table leaves or makes of a source's."""
    called = classes_now(table or "the table", rows, classes).values()
    return tuple(dict.fromkeys(name for name in called if name is not None))


def _called(call: Mapping[str, str | None], classes: Sequence[str]) -> dict[str, str]:
    """New names by present ones, both as they are written."""
    wanted = {_known(old, classes): name for old, name in call.items()}
    if len(wanted) < len(call):
        raise RecipeError("One class is named twice", "Merge, rename or remove each once.")
    others = [name for name in classes if name not in wanted]
    called = {
        old: LEFT_OUT if name is None else _spelt(name, others) for old, name in wanted.items()
    }
    for name in called.values():
        if name in classes and called.get(name) != name:
            raise RecipeError(
                f"There is a class {name!r} already",
                f"To make them one: --merge {','.join(dict.fromkeys([*called, name]))}={name}",
            )
    return called


def _spelt(name: str, classes: Sequence[str]) -> str:
    """A class's name, as it is written if it is there in other letters."""
    name = nfc(name.strip())
    if not name or name == LEFT_OUT or not name.isprintable():
        raise RecipeError(f"{name!r:.80} cannot be a class's name", "Give another one.")
    alike = [known for known in classes if nfc(known).casefold() == name.casefold()]
    return name if name in alike or not alike else alike[0]


def _known(name: str, classes: Sequence[str]) -> str:
    """The class of a name, which must be there."""
    class_ = _spelt(name, classes)
    check_choices("class", [class_], classes)
    return class_


def _groups_of(
    recipe: DataRecipe, class_: str, out: str | os.PathLike[str] | None, watcher: Watcher
) -> tuple[tuple[tuple[str, ...], ...], Path | None]:
    """The names in each group inside a class, the largest first, and the sheet that shows them."""
    try:
        from opsin.backbones.backbone import open_backbone  # noqa: PLC0415  few split a class
        from opsin.backbones.feature_graph import usual_preparation  # noqa: PLC0415
        from opsin.backbones.features import compute  # noqa: PLC0415
        from opsin.classical.heads import rooted  # noqa: PLC0415
        from opsin.labelling.groups import PARTS, groups_of  # noqa: PLC0415
        from opsin.labelling.labelling import USUAL  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("splitting a class", "evaluate") from error

    backbone = open_backbone(USUAL, offline=True, watcher=watcher)
    usual = usual_preparation(backbone)
    size = {"size": (usual.height, usual.width), "channels": usual.channels, "resize": usual.resize}
    _, dataset = read_corrected(recipe.model_copy(update=size), watcher=watcher, for_training=False)
    of = np.arange(len(dataset.labels))  # without corrections, all are of this class
    if recipe.labels is not None:
        of = np.flatnonzero(dataset.labels == places_among([class_], dataset.classes))
    if len(of) <= PARTS:
        raise RecipeError(f"{class_} has {len(of)} images, which are too few to split")
    features = compute(
        backbone, subset(dataset.images, of), dataset.digests[of], ("whole",), watcher=watcher
    )
    found = groups_of(rooted(features, backbone.units), np.arange(len(of)), PARTS)
    rows = sorted((of[group.rows].tolist() for group in found), key=len, reverse=True)
    groups = tuple(tuple(dataset.names[row] for row in group) for group in rows)
    if out is None:
        return groups, None
    from opsin.report.figures.dataset_figures import draw_grid  # noqa: PLC0415  matplotlib
    from opsin.report.figures.style import save, styled  # noqa: PLC0415

    shown = [(f"group {number}", row) for number, group in enumerate(rows, 1) for row in group[:5]]
    images, titles = [dataset.images[row] for _, row in shown], [title for title, _ in shown]
    with styled():
        grid = draw_grid(images, titles, f"{class_} in {len(groups)} groups")
        return groups, save(grid, Path(out) / "split.png")
