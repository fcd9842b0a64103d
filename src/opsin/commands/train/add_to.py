"""Images that are added to those of a run: its parts and folds stay, its weights are taken over."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from opsin.classical.classical_recipe import BACKBONE, ClassicalRecipe
from opsin.commands.compare import compare
from opsin.commands.evaluate import accuracy_of
from opsin.commands.runs import AnyRecipe, ImportRecipe, Run
from opsin.commands.train.learner import can_train_networks
from opsin.core.arrays import Bools
from opsin.core.artifacts.records import DatasetRecord, LeftOut
from opsin.core.artifacts.run_directory import RunDirectory
from opsin.core.artifacts.run_predictions import RunPredictions
from opsin.core.artifacts.run_report import Added, AddedClass, Report
from opsin.core.errors import OpsinError, RecipeError, RunError, SourceError
from opsin.core.events import Watcher
from opsin.core.format import counted
from opsin.core.recipe import AUGMENTATIONS, DATA_OPTIONS, DataRecipe, flat_options
from opsin.data import sources
from opsin.data.cache import as_keys, digest_names, short_digest
from opsin.data.corrections import (
    LEFT_OUT,
    Correction,
    Decoded,
    classes_now,
    correct,
    read_corrections,
)
from opsin.data.dataset import Dataset, load_recipe
from opsin.data.image_tree import is_within
from opsin.data.run_images import recipe_of_run
from opsin.data.sources.contents import titles_of
from opsin.data.sources.named import is_place
from opsin.data.spelling import nfc, places_among
from opsin.data.split import UNASSIGNED, Split, make_split

# Options of reading that may be given beside a run, which decides all others of the data.
_READING: Final = ("labels", "columns", "follow_links", "outside", "max_unreadable")
# What goes on from the weights of a network that was trained from scratch takes over.
_KEPT: Final = ("seed", "class_mix", "device", "augment", *AUGMENTATIONS["none"])
# What depends on the network that a fine-tuning began with, or on the machine.
_DROPPED: Final = ("prepare", "at", "precision", "micro_batch")


def extend(
    run: str | os.PathLike[str],
    data: object,
    model: str | None,
    options: dict[str, Any],
    watcher: Watcher,
) -> tuple[Dataset, str]:
    """Join new images to a run's; return them all, the model, and in ``options`` those of it."""
    directory, recipe = RunDirectory.open(run), Run(run).recipe
    if isinstance(recipe, ImportRecipe):
        raise RunError(
            f"{directory.path} was imported: nobody knows what it learnt from",
            f"Train a classifier that begins with it: opsin train SOURCE --from {directory.path}",
        )
    directory.read(Report)  # one that is not finished has none
    given = {name: value for name, value in options.items() if value is not None}
    decided = sorted(set(given) & {*DATA_OPTIONS, "backbone"} - set(_READING))
    if model not in (None, "auto", recipe.model.name) or decided:
        what = ", ".join(decided) or "model"
        raise RecipeError(
            f"{directory.path} decides the {what} of what is added to it",
            "Leave this out, or train anew on both sources.",
        )
    places = data if isinstance(data, list | tuple) else [data]
    if not all(isinstance(place, str | os.PathLike) for place in places):
        raise RecipeError("Only images in files can be added to a run", "Give a folder or a table.")
    dataset = _load(directory, list(map(os.fspath, places)), given, watcher)
    options.clear()
    options.update(_options_of(recipe, directory.path))
    options.update({name: value for name, value in given.items() if name not in DATA_OPTIONS})
    if dataset.fold is not None and options.get("fine_tune"):
        raise RecipeError(
            f"{directory.path} is judged by all its images, and fine-tuning must choose by some",
            "Leave --fine-tune out, or train anew on both sources.",
        )
    return dataset, options.pop("model")


def _options_of(recipe: AnyRecipe, run: os.PathLike[str]) -> dict[str, Any]:
    """The options of a run's model, or those of going on from the weights of its network."""
    content = recipe.model_dump(mode="json", exclude_unset=True, exclude={"data", "budget"})
    options: dict[str, Any] = dict(flat_options(content))
    kept = {name: value for name, value in options.items() if name in _KEPT}
    if isinstance(recipe, ClassicalRecipe):
        if not recipe.fine_tunes:
            return options
        kept = {name: value for name, value in options.items() if name not in _DROPPED}
    if not can_train_networks():  # then a head learns from its features
        kept = {name: value for name, value in kept.items() if name in ("seed", "class_mix")}
    tunes = {"fine_tune": True} if can_train_networks() else {}
    return kept | {"model": BACKBONE, "backbone": str(run), **tunes}


def _load(
    directory: RunDirectory, places: Sequence[str], given: dict[str, Any], watcher: Watcher
) -> Dataset:
    """The images of a run and new ones, which the run does not know."""
    old, kept = recipe_of_run(directory), directory.load_arrays(directory.split)
    new = [place for place in places if not _lies_in(place, old.sources)]
    update = {name: given[name] for name in _READING if name in given} | {
        "sources": (*old.sources, *new),
        "labels": None,
        "fold": None,
        "parts_of": None if "fold" in kept else str(directory.path),
    }
    recipe = DataRecipe.model_validate(old.model_dump(exclude_unset=True) | update)
    located = sources.find_all(recipe, watcher=watcher)
    tested = [recipe.test] if recipe.test else []
    titles = titles_of([*recipe.sources, *tested], test=bool(tested))

    def is_new(names: Sequence[str]) -> Bools:
        added = titles[len(old.sources) : len(recipe.sources)]
        return np.array([not new or name.partition("/")[0] in added for name in names], bool)

    if old.classes is not None:
        contents, listed = located.open(), set(map(nfc, old.classes))
        there = np.unique(contents.labels[is_new(contents.names)]).tolist()
        more = [
            name for name in map(contents.classes.__getitem__, there) if nfc(name) not in listed
        ]
        recipe = recipe.model_copy(update={"classes": (*old.classes, *more)})

    def prove(decoded: Decoded) -> Decoded:
        table = given.get("labels")
        rows = read_corrections(str(table or old.labels)) if table or old.labels else []
        if table is None and len(titles) > 1 == len(old.sources) and not old.test:
            # Names began without a title when the source was the only one.
            rows = [row._replace(name=row.name and f"{titles[0]}/{row.name}") for row in rows]
        proven = _proven(
            directory, decoded, is_new(decoded.names), rows, table=table, watcher=watcher
        )
        if not set(digest_names(proven.digests)) - set(digest_names(kept["digests"])):
            raise SourceError(
                f"{' and '.join(places)} has no image that {directory.path} does not know",
                "Give new ones.",
            )
        return proven

    dataset = load_recipe(recipe, located=located, watcher=watcher, prove=prove)
    dataset = replace(dataset, held=None)
    subjects = dataset.subjects
    if subjects.recorded is not None:
        # A part that was given to the run must not keep a new class from having one.
        free = np.where(subjects.recorded > 0, UNASSIGNED, subjects.source_parts).astype(np.uint8)
        subjects = replace(subjects, source_parts=free)
        return replace(dataset, subjects=subjects, split=make_split(subjects, recipe))
    if dataset.given_parts:
        raise SourceError(
            f"{' and '.join(places)} says which images are for the test, and {directory.path} is "
            "judged by all its images",
            "Give the images without their parts.",
        )
    known = dict(zip(map(bytes, kept["digests"]), kept["fold"].tolist(), strict=True))
    folds = [known.get(bytes(digest), -1) for digest in short_digest(dataset.digests)]
    none = np.zeros(0, np.int64)
    split = Split(np.arange(len(dataset)), none, none)
    return replace(dataset, fold=np.array(folds, np.int64), split=split)


def _proven(
    directory: RunDirectory,
    decoded: Decoded,
    new: Bools,
    rows: list[Correction],
    *,
    table: str | None,
    watcher: Watcher,
) -> Decoded:
    """Images without copies of those of the run, in its classes where letters alone differ."""
    edit = max((row.edit for row in rows), default=0) + 1
    known, path = directory.read(DatasetRecord).classes, table or directory.corrections
    alike = {nfc(name).casefold(): name for name in known}
    present = classes_now(path, rows, decoded.classes).values()
    rows += [
        Correction("", "", alike[nfc(name).casefold()], class_=name, edit=edit)
        for name in dict.fromkeys(filter(None, present))
        if places_among([name], known)[0] < 0 and nfc(name).casefold() in alike
    ]
    contents, digests = as_keys(decoded.source_digests), digest_names(decoded.digests)
    # A source's own copies count, as in training.
    copies = np.flatnonzero(new & np.isin(contents, contents[~new])).tolist()
    names = [decoded.names[row] for row in copies]
    rows += [
        Correction(digests[row], name, LEFT_OUT, edit=edit)
        for row, name in zip(copies, names, strict=True)
    ]
    # Images of the run may be gone since.
    done = correct(decoded, path, rows, missing_ok=table is None) if rows else decoded
    if not copies or done.corrected is None:
        return done
    watcher.note(
        f"{directory.path.name} knows {counted(len(copies), 'image')} of these already, which "
        "stay what they are there"
    )
    # They are no corrections of the user's.
    less = {"left_out": done.corrected.left_out - len(copies)}
    kind = f"image that {directory.path.name} knows"
    left_out = LeftOut(kind=kind, count=len(copies), examples=names[:5])
    return replace(
        done,
        corrected=done.corrected.model_copy(update=less),
        left_out=(*done.left_out, left_out),
    )


def _lies_in(place: str, known: Sequence[str]) -> bool:
    """Whether a place is one of some sources, or a folder in one."""
    if not is_place(place):
        return place in known
    folders = [place, *filter(is_place, known)]
    real, *others = (os.path.realpath(os.path.expanduser(one)) for one in folders)  # noqa: PTH111
    return any(is_within(real, folder) for folder in others)


def compared(directory: RunDirectory, report: Report, run: str, watcher: Watcher) -> Report:
    """A report with the old images before and after, and the new ones."""
    report.write(directory.path)  # it is compared
    try:
        pair = compare(run, directory.path)
    except OpsinError as error:
        watcher.note(f"What became of {run} is not told: {error}")
        return report
    before = RunDirectory.open(run)
    known = set(map(bytes, before.load_arrays(before.split)["digests"]))
    earlier = before.read(DatasetRecord).classes
    predicted = RunPredictions.read(directory).of(report.split)
    digests = directory.load_arrays(directory.split)["digests"][predicted.rows]
    new = np.array([bytes(digest) not in known for digest in digests], bool)
    classes = []
    for label, name in enumerate(directory.read(DatasetRecord).classes):
        rows = np.flatnonzero(new & (predicted.labels == label))
        is_new = places_among([name], earlier)[0] < 0
        groups = None if predicted.groups is None else predicted.groups[rows]
        figures = dict(accuracy_of(predicted.right[rows], groups)) if len(rows) else {}
        if is_new or len(rows):
            classes.append(AddedClass(name=name, is_new=is_new, **figures))
    test, (one, other) = pair.pairs[0], pair.runs
    added = Added(
        run=before.path.name,
        part=pair.part,
        images=pair.images,
        before=one.accuracy,
        after=other.accuracy,
        difference=test.difference,
        low=test.low,
        high=test.high,
        p=test.p,
        better=None if test.better is None else "before" if test.better == "A" else "after",
        classes=classes,
        notes=list(pair.notes),
    )
    added = added.model_copy(update={"sentence": added.words()})
    return report.model_copy(update={"added": added})
