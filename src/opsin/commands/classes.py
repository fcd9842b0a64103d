"""Classes merged, renamed, removed and split, as rows of a table of corrections; undone there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

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
from opsin.data.dataset import Dataset, load_recipe
from opsin.data.image_tree import is_run
from opsin.data.lazy_images import subset
from opsin.data.run_images import recipe_of_run
from opsin.data.spelling import nfc
from opsin.report.class_change import ClassChange, ClassGroup

# Groups that a class is offered in, images of a group on the sheet, and images that tell how many.
_GROUPS, _SHOWN, _TOLD = (2, 3, 4), 5, 2_000
#: The network that tells images of a class apart.
NETWORK: Final = "efficientnet-lite2"


@checked
def change_classes(
    *inputs: str | os.PathLike[str], labels: str | os.PathLike[str] | None = None,
    call: Mapping[str, str | None] | None = None, split: str | None = None,
    names: Sequence[str] = (), out: str | os.PathLike[str] | None = None,
    watcher: Watcher = SILENT, **options: Any,
) -> ClassChange:  # fmt: skip
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
    places, before = (
        [os.fspath(place) for place in inputs],
        None if labels is None else Path(labels),
    )
    if len(places) == 1 and is_run(places[0]):
        recipe = recipe_of_run(RunDirectory.open(places[0])).model_copy(update=options)
    else:
        recipe = DataRecipe.of(*places, **options)
    if before is not None:
        _check_own(before)
        check_writable(before)
    elif call or names:
        raise RecipeError("Changes of classes are kept in a table", "Name it: --labels FILE.csv.")
    if before is None or not before.is_file():
        before = Path(recipe.labels) if recipe.labels else None
    rows = [] if before is None else read_corrections(before)
    own = sources.find_all(recipe, watcher=watcher).open().keep(recipe.classes).classes
    classes, new = _present(before, rows, own), list[Correction]()
    edit = max((row.edit for row in rows), default=0) + 1
    called = {_known(old, classes): now for old, now in (call or {}).items()}
    for old, now in called.items():
        name = LEFT_OUT if now is None else _spelt(now, classes)
        if name in classes and name not in called:
            raise RecipeError(
                f"There is a class {name!r} already",
                f"To make them one: --merge {','.join([*called, name])}={name}",
            )
        if (name := nfc(now.strip()) if now and list(called) == [name] else name) != old:
            new.append(Correction("", "", name, class_=old, edit=edit))
    groups: tuple[ClassGroup, ...] = ()
    sheet = None
    if split is not None:
        groups, sheet = _groups_of(recipe, before, _known(split, classes), out, watcher)
        if names and len(names) != len(groups):
            raise RecipeError(
                f"{split} falls into {len(groups)} groups, and {len(names)} names are given",
                "Name each; the same name twice makes two groups one.",
            )
        for group, name in zip(groups, names, strict=False):
            class_ = _spelt(name, [*classes, *(row.class_ for row in new)])
            new.append(Correction("", "", class_, class_=class_, edit=edit))
            new += [Correction("", image, class_, edit=edit) for image in group.names]
    if labels is not None and new:
        write_corrections(labels, [*rows, *new])
    words = [*recipe.sources, *(["--labels", os.fspath(labels)] if labels else [])]
    return ClassChange(
        labels=Path(labels) if labels and new else None,
        classes=_present(before, [*rows, *new], own),
        groups=groups, sheet=sheet, command=f"opsin train {shlex.join(words)}",
    )  # fmt: skip


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


def _check_own(table: Path) -> None:
    if is_run(os.fspath(table.absolute().parent)):
        raise RecipeError(
            f"{table} is the record of what a run learnt from", "Give a table outside the run."
        )


def _present(
    table: Path | None, rows: Sequence[Correction], classes: Sequence[str]
) -> tuple[str, ...]:
    """The classes that a table leaves or makes of a source's."""
    called = classes_now(table or "the table", rows, classes).values()
    return tuple(dict.fromkeys(name for name in called if name is not None))


def _spelt(name: str, classes: Sequence[str]) -> str:
    """A class's name, as it is written if it is there in other letters."""
    name = nfc(name.strip())
    if not name or name == LEFT_OUT or not name.isprintable():
        raise RecipeError(f"{name!r:.80} cannot be a class's name", "Give another one.")
    alike = [known for known in classes if nfc(known).casefold() == name.casefold()]
    return name if name in alike or not alike else alike[0]


def _known(name: str, classes: Sequence[str]) -> str:
    """The class of a name, which must be there."""
    if (class_ := _spelt(name, classes)) not in classes:
        there = ", ".join(classes[:30])
        raise RecipeError(f"There is no class {name!r:.80}", f"There are {there}.")
    return class_


def _groups_of(
    recipe: DataRecipe, table: Path | None, class_: str, out: str | os.PathLike[str] | None,
    watcher: Watcher,
) -> tuple[tuple[ClassGroup, ...], Path | None]:  # fmt: skip
    """The groups inside a class, the largest first, and the sheet that shows them."""
    try:
        from sklearn.metrics import silhouette_score  # noqa: PLC0415  few split a class

        from opsin.backbones.backbone import open_backbone  # noqa: PLC0415
        from opsin.backbones.feature_graph import usual_preparation  # noqa: PLC0415
        from opsin.backbones.features import compute  # noqa: PLC0415
        from opsin.classical.heads import rooted  # noqa: PLC0415
        from opsin.labelling.groups import groups_of  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("splitting a class", "evaluate") from error

    backbone = open_backbone(NETWORK, offline=True, watcher=watcher)
    usual = usual_preparation(backbone)
    dataset = load_recipe(
        recipe.model_copy(update={
            "size": (usual.height, usual.width), "channels": usual.channels,
            "resize": usual.resize, "labels": None if table is None else os.fspath(table),
        }),
        watcher=watcher, for_training=False,
    )  # fmt: skip
    of = np.flatnonzero(dataset.labels == list(map(nfc, dataset.classes)).index(nfc(class_)))
    if len(of) <= max(_GROUPS):
        raise RecipeError(f"{class_} has {len(of)} images, which are too few to split")
    features = compute(
        backbone, subset(dataset.images, of), dataset.digests[of], ("whole",), watcher=watcher
    )
    points = rooted(features[:, 0], backbone.units)
    every = np.arange(len(of))
    some = np.random.default_rng(0).permutation(every)[:_TOLD]

    def apart(number: int) -> float:
        group = np.zeros(len(of), np.int64)
        for label, found in enumerate(groups_of(points, every, number)):
            group[found.rows] = label
        several = len(np.unique(group[some])) > 1 and np.bincount(group).min() > 1
        return float(silhouette_score(points[some], group[some])) if several else -1.0

    found = groups_of(points, every, max(_GROUPS, key=apart))
    found.sort(key=lambda group: -len(group.rows))
    groups = tuple(
        ClassGroup(images=len(one.rows), names=tuple(dataset.names[of[row]] for row in one.rows))
        for one in found
    )
    shown = [of[one.rows[:_SHOWN]] for one in found]
    return groups, None if out is None else _draw(dataset, class_, shown, Path(out))


def _draw(dataset: Dataset, class_: str, shown: Sequence[Any], out: Path) -> Path:
    from opsin.report.figures.dataset_figures import draw_grid  # noqa: PLC0415  matplotlib
    from opsin.report.figures.style import save, styled  # noqa: PLC0415

    images = [dataset.images[int(row)] for rows in shown for row in rows]
    names = [f"group {number}" for number, rows in enumerate(shown, 1) for _ in rows]
    with styled():
        return save(draw_grid(images, names, f"{class_} in {len(shown)} groups"), out / "split.png")
